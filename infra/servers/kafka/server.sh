# Apache Kafka 4.4.0: one KRaft node. Sourced by ../servers, which says what each function is for.
# shellcheck shell=bash disable=SC2154 # here, dir and jvm_flags are set by ../servers

kafka_install() { fetch "$here/kafka/pom.xml" "$1"; }

kafka_prepare() {
  local home=$1/home data=$1/data java pair name number=0 listeners='' advertised='' protocols=''
  # A relay between a client and the broker needs a listener that tells clients to come to the relay.
  for pair in ${KAFKA_RELAYED:-}; do
    name=RELAYED$((++number))
    listeners+=",$name://127.0.0.1:${pair%:*}"
    advertised+=",$name://127.0.0.1:${pair#*:}"
    protocols+=",$name:PLAINTEXT"
  done
  sed -e "s|@RELAYED_LISTENERS@|$listeners|" -e "s|@RELAYED_ADVERTISED@|$advertised|" \
    -e "s|@RELAYED_PROTOCOLS@|$protocols|" \
    -e "s|@PORT@|$2|g" -e "s|@CONTROLLER_PORT@|$(($2 + 1))|g" -e "s|@DATA@|$data|g" \
    "$here/kafka/server.properties.in" >"$home/server.properties"
  cp "$here/kafka/log4j2.yaml" "$home/"
  [[ ! -f $data/meta.properties ]] || return 0
  # A KRaft node writes its cluster's id (a base64url uuid) into an empty data folder once.
  java=$(java_home)
  "$java/bin/java" "${jvm_flags[@]}" -cp "$home/libs/*" kafka.tools.StorageTool format \
    -t "A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c2-22)" -c "$home/server.properties" \
    >"$1/format.log" 2>&1 || {
    cat "$1/format.log" >&2
    die "kafka: could not format $data"
  }
}

kafka_exec() {
  local java
  java=$(java_home)
  exec setsid "$java/bin/java" -Xms128m "-Xmx${KAFKA_HEAP:-512m}" -XX:+UseG1GC "${jvm_flags[@]}" \
    -Djava.awt.headless=true -Dlog4j2.configurationFile="$1/home/log4j2.yaml" \
    -cp "$1/home/libs/*" kafka.Kafka "$1/home/server.properties"
}

# Not a server's: see ../servers.
kafka_consumer_groups() {
  local java home=$1/home
  shift
  java=$(java_home)
  exec "$java/bin/java" "${jvm_flags[@]}" -cp "$home/libs/*" \
    org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"
}

kafka_ready() { grep -q 'Kafka Server started' "$3" && listening "$2"; }

kafka_address() { printf 'MILLRACE_TEST_KAFKA=127.0.0.1:%s\n' "$1"; }
