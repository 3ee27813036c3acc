# The program `kv` on Debian, with RocksDB, for nobody in particular and as nobody in particular.
#
#   docker build -t splitbrain/kv .
#
# The order of the stages matters. The builder of Docker 20.10 goes through them from the top up to the one that is asked for, so
# `--target prebuilt` neither needs the image with the compiler nor runs it. docker/offline-images.sh lives on that.

# Where there is no registry, these name images that are there already.
ARG RUNTIME_IMAGE=debian:bookworm-slim
ARG BUILD_IMAGE=rust:1.95-bookworm

# What the program runs in.
FROM ${RUNTIME_IMAGE} AS base
# An image made offline brings the library: there, nothing may be asked of the network.
RUN set -eu; \
    if ! ldconfig -p | grep -q librocksdb.so.7.8; then \
        apt-get update; \
        apt-get install -y --no-install-recommends librocksdb7.8; \
        rm -rf /var/lib/apt/lists/*; \
    fi; \
    groupadd --gid 10001 kv; \
    useradd --uid 10001 --gid kv --no-create-home --home-dir /data --shell /usr/sbin/nologin kv; \
    install -d -o kv -g kv /data
COPY docker/kv-ready /usr/local/bin/
USER kv
WORKDIR /data
# gRPC and HTTP, as docker-compose.yml has them for its first node.
EXPOSE 7001 8001
# A node that gets it hands its writers' roles over first; give it more than ten seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["kv"]
CMD ["--help"]

# The program as it was built on the host. Where this stage is not asked for, the folder is empty.
FROM base AS prebuilt
ARG PREBUILT=docker/bin/
COPY ${PREBUILT} /usr/local/bin/

# The program, built here.
FROM ${BUILD_IMAGE} AS build
RUN set -eu; \
    apt-get update; \
    apt-get install -y --no-install-recommends clang g++ libclang-dev librocksdb-dev; \
    rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# Debian's RocksDB: the crate's own takes a quarter of an hour to compile (kv/Cargo.toml).
RUN set -eu; \
    ROCKSDB_LIB_DIR="/usr/lib/$(gcc -print-multiarch)" ROCKSDB_INCLUDE_DIR=/usr/include \
        cargo build --locked --release -p kv --features rocksdb; \
    strip -o /kv target/release/kv

FROM base AS kv
COPY --from=build /kv /usr/local/bin/kv
