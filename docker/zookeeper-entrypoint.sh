#!/bin/bash
# Starts ZooKeeper as the public image `zookeeper` does, as far as the compose files need it: settings in /conf/zoo.cfg, data in /data,
# its number from ZOO_MY_ID, its memory from ZK_SERVER_HEAP (MiB). Goes into the image that offline-images.sh makes.
set -euo pipefail

if [[ ! -f /conf/zoo.cfg ]]; then
    echo 'there are no settings: mount them as /conf/zoo.cfg' >&2
    exit 1
fi
if [[ ! -f /data/myid ]]; then
    echo "${ZOO_MY_ID:-1}" >/data/myid
fi
# The jar names the others that it needs.
exec /usr/bin/java "-Xmx${ZK_SERVER_HEAP:-1000}m" -XX:+UseSerialGC \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=info \
    -cp /usr/share/java/slf4j-simple.jar:/usr/share/java/zookeeper.jar \
    org.apache.zookeeper.server.quorum.QuorumPeerMain /conf/zoo.cfg
