#!/bin/bash
# Makes the images of docker-compose.yml where there is no registry: from Debian's packages, and from the program as it was built here.
#
#   splitbrain/base        Debian bookworm with what `kv` needs (the Dockerfile's RUNTIME_IMAGE)
#   splitbrain/zookeeper   the same with Java and Debian's ZooKeeper, in the place of the public image `zookeeper`
#   splitbrain/kv          the Dockerfile's stage `prebuilt`
#
# and a file .env that says so to docker-compose. An image that is there already is not made again, but for the last, which takes a
# second. It needs root, for debootstrap, and a mirror of Debian: the one that this machine installs from.
set -euo pipefail

readonly SUITE=bookworm # As in the Dockerfile: the library's name and version belong to it.
readonly BASE=splitbrain/base ZOOKEEPER=splitbrain/zookeeper KV=splitbrain/kv
readonly BUILD='ROCKSDB_LIB_DIR=/usr/lib/x86_64-linux-gnu ROCKSDB_INCLUDE_DIR=/usr/include cargo build --release -p kv --features rocksdb'

usage() {
    cat <<'END'
Usage: docker/offline-images.sh [OPTION...]

  --binary PATH   the program, also one of a debug build [default: target/release/kv]
  --only IMAGE    make only this one: base, zookeeper or kv; may be given several times
  --force         make anew what is there already
  --mirror URL    the mirror of Debian [default: the one in this machine's apt sources]
  --help          this text
END
}

fail() {
    echo "offline-images.sh: $*" >&2
    exit 1
}

say() {
    printf '%4ds  %s\n' "$SECONDS" "$*" >&2
}

# --- What is asked for -------------------------------------------------------------------------------------------------------------

arguments=$*
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=target/release/kv
only=()
force=
mirror=
while (($# > 0)); do
    case $1 in
        --binary | --only | --mirror)
            (($# > 1)) || fail "$1 wants a value; see --help"
            case $1 in
                --binary) binary=$2 ;;
                --only) only+=("$2") ;;
                --mirror) mirror=$2 ;;
            esac
            shift
            ;;
        --force) force=yes ;;
        --help) usage && exit ;;
        *) fail "I do not know \`$1\`; see --help" ;;
    esac
    shift
done
for name in "${only[@]}"; do
    [[ $name =~ ^(base|zookeeper|kv)$ ]] || fail "--only takes base, zookeeper or kv, and not \`$name\`"
done

is_asked_for() {
    ((${#only[@]} == 0)) || [[ " ${only[*]} " == *" $1 "* ]]
}

is_there() {
    docker image inspect "$1" >/dev/null 2>&1
}

is_to_make() {
    is_asked_for "$1" && { [[ -n $force ]] || ! is_there "$2"; }
}

# --- A root file system ------------------------------------------------------------------------------------------------------------

# Where this machine gets its packages from, as far as it is Debian; from wherever it is elsewhere.
find_mirror() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -v '^ *#' | grep -oE '(https?|file)://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ') || true
    echo "${found:-http://deb.debian.org/debian}"
}

# debootstrap downloads with wget, which does not know what apt knows.
use_proxy_of_apt() {
    local proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null || true)"
    if [[ -n $proxy && -z ${http_proxy:-} ]]; then
        export http_proxy=$proxy
    fi
}

# $1: the folder. Packages that it gets on top of the smallest system follow.
bootstrap() {
    local root=$1 included
    shift
    included=$(IFS=, && echo "$*")
    # The messages are for who looks for a mistake.
    if ! debootstrap --variant=minbase --include="$included" "$SUITE" "$root" "$mirror" >"$work/log" 2>&1; then
        tail -n 5 "$work/log" "$root/debootstrap/debootstrap.log" >&2 || true
        fail "debootstrap could not make a system from $mirror; is it the mirror of Debian? (--mirror)"
    fi
}

# $1: the folder of a system. Packages that are added to it follow.
add_packages() {
    local root=$1
    shift
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    # In a mount namespace of their own the mounts end by themselves, and nobody ever deletes the files of /dev through them. Nothing
    # has to survive a power failure here, so dpkg need not wait for the disk.
    # shellcheck disable=SC2016
    if ! unshare --mount bash -ec '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount --bind /dev "$root/dev"
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C
        chroot "$root" apt-get update
        chroot "$root" apt-get install --yes --no-install-recommends --option Dpkg::Options::=--force-unsafe-io "$@"
        ' bash "$root" "$@" >"$work/log" 2>&1; then
        tail -n 5 "$work/log" >&2
        fail "cannot install $* from $(awk '{ print $2; exit }' "$root/etc/apt/sources.list")"
    fi
}

# What no container reads.
prune() {
    local root=$1
    rm -rf "$root"/usr/share/{doc,info,lintian,locale,man}/* "$root"/var/log/* \
        "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,debconf,ldconfig}/* \
        "$root"/etc/{hostname,resolv.conf,machine-id}
}

# $1: the folder, $2: the image. What the image starts with follows.
import() {
    local root=$1 image=$2 change
    local changes=()
    shift 2
    for change in "$@"; do
        changes+=(--change "$change")
    done
    prune "$root"
    # /dev is the container's own.
    tar --create --directory "$root" --numeric-owner --exclude='./dev/*' . | docker import "${changes[@]}" - "$image" >/dev/null
    rm -rf "$root"
}

# --- The images --------------------------------------------------------------------------------------------------------------------

make_base() {
    say "$BASE: making a Debian from $mirror"
    bootstrap "$work/base" librocksdb7.8
    import "$work/base" "$BASE"
    say "$BASE is made"
}

make_zookeeper() {
    local root=$work/zookeeper container
    say "$ZOOKEEPER: adding Java and ZooKeeper to $BASE"
    install -d "$root"
    container=$(docker create "$BASE" true)
    docker export "$container" | tar --extract --directory "$root" --numeric-owner
    docker rm "$container" >/dev/null
    # Debian's package `zookeeper` itself has only scripts, and would bring a desktop's Java.
    add_packages "$root" openjdk-17-jre-headless libzookeeper-java
    # As the public image has it: the user, the folders, and how it starts.
    chroot "$root" useradd --uid 1000 --no-create-home --home-dir /data --shell /usr/sbin/nologin zookeeper
    install -d -o 1000 -g 1000 "$root/data"
    install -d "$root/conf"
    install -m 755 docker/zookeeper-entrypoint.sh "$root/docker-entrypoint.sh"
    import "$root" "$ZOOKEEPER" 'USER 1000' 'WORKDIR /data' 'EXPOSE 2181 2888 3888' 'ENTRYPOINT ["/docker-entrypoint.sh"]'
    say "$ZOOKEEPER is made"
}

make_kv() {
    local log=$work/build-log
    # Debug information would be most of the image.
    if ! strip -o docker/bin/kv "$binary" 2>/dev/null; then
        cp "$binary" docker/bin/kv
    fi
    chmod 755 docker/bin/kv
    # BuildKit would not look for images of this engine only.
    if ! DOCKER_BUILDKIT=0 docker build --target prebuilt --build-arg "RUNTIME_IMAGE=$BASE" --tag "$KV" . >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        fail "docker build failed"
    fi
    # A program that was built on another system may want libraries that this one does not have.
    if ! docker run --rm --network none "$KV" --version >"$log" 2>&1; then
        tail -n 1 "$log" >&2
        fail "$binary does not run in the image; build it on Debian $SUITE"
    fi
    say "$KV is made of $binary"
}

# For docker-compose. What else there is in the file stays.
write_env() {
    local ours="ZOOKEEPER_IMAGE=$ZOOKEEPER
RUNTIME_IMAGE=$BASE
BUILD_TARGET=prebuilt"
    local theirs
    theirs=$(grep -vE '^(ZOOKEEPER_IMAGE|RUNTIME_IMAGE|BUILD_TARGET)=' .env 2>/dev/null) || true
    printf '%s\n' ${theirs:+"$theirs"} "$ours" >.env
}

# --- All of it ---------------------------------------------------------------------------------------------------------------------

command -v docker >/dev/null || fail "there is no docker; install Docker (Debian: apt-get install docker.io)"
problem=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null) ||
    fail "no Docker Engine answers; is it running, and may you use it? Docker says: $(tail -n 1 <<<"$problem")"
# Before anything takes minutes.
if is_asked_for kv && [[ ! -f $binary ]]; then
    fail "$binary is not built; build it with: $BUILD"
fi
if is_to_make base "$BASE" || is_to_make zookeeper "$ZOOKEEPER"; then
    command -v debootstrap >/dev/null || fail "there is no debootstrap; install it: apt-get install debootstrap"
    ((EUID == 0)) || fail "debootstrap and chroot need root: sudo $0 $arguments"
    mirror=${mirror:-$(find_mirror)}
    use_proxy_of_apt
fi
if ! is_asked_for base && ! is_there "$BASE"; then
    fail "the others are made from $BASE, which is not there: leave --only out, or say --only base, too"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if is_to_make base "$BASE"; then make_base; fi
if is_to_make zookeeper "$ZOOKEEPER"; then make_zookeeper; fi
if is_asked_for kv; then make_kv; fi
write_env
say ".env says so; now: docker-compose up -d"
