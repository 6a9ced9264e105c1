# OpenSearch 2.19.1 with knn, neural-search and ml-commons, without security. Sourced by ../servers,
# which says what each function is for.
# shellcheck shell=bash disable=SC2154 # here, dir and jvm_flags are set by ../servers

# The smallest published distribution, with the modules and plugins put where they belong.
opensearch_install() {
  local home=$1 fetched=$1/fetched module archive name version
  fetch "$here/opensearch/pom.xml" "$fetched"
  mv "$fetched"/archives/opensearch-[0-9]*/opensearch-*/* "$home/"
  version=$(basename "$home"/lib/opensearch-[0-9]*.jar .jar)
  version=${version#opensearch-}
  # Modules are published as bare jars; the descriptor and the permissions that the full
  # distribution has beside them are in modules/ here.
  for module in "$here"/opensearch/modules/*/; do
    name=$(basename "$module")
    mv "$fetched/modules/$name" "$home/modules/"
    sed "s|@VERSION@|$version|" "$module/plugin-descriptor.properties" >"$home/modules/$name/plugin-descriptor.properties"
    [[ ! -f $module/plugin-security.policy ]] || cp "$module/plugin-security.policy" "$home/modules/$name/"
  done
  mkdir -p "$home/plugins"
  for archive in "$fetched"/archives/*/plugin-descriptor.properties; do
    name=$(sed -n 's/^name=//p' "$archive" | tr -d '\r')
    mv "$(dirname "$archive")" "$home/plugins/$name"
  done
  rm -rf "$fetched"
  chmod +x "$home"/bin/*
  mkdir -p "$home"/{config/jvm.options.d,logs,tmp}
  cp "$here/opensearch/log4j2.properties" "$home/config/"
}

# OpenSearch refuses to run as root. Root becomes the unprivileged user 65534 where that user can
# reach the folder, and otherwise (a checkout under /root, say) appears as it in a user namespace.
opensearch_user() {
  as=()
  [[ $(id -u) == 0 ]] || return 0
  as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  if "${as[@]}" test -r "$1/home/lib" 2>/dev/null; then return; fi
  as=(unshare --user --map-user=65534 --map-group=65534)
  "${as[@]}" test -r "$1/home/lib" 2>/dev/null ||
    die "opensearch: it refuses to run as root, and no other user can reach $1; set SERVERS_DIR to a folder that everybody can enter"
}

opensearch_prepare() {
  local home=$1/home as
  sed -e "s|@PORT@|$2|g" -e "s|@TRANSPORT_PORT@|$(($2 + 1))|g" -e "s|@DATA@|$1/data|g" -e "s|@LOGS@|$home/logs|g" \
    "$here/opensearch/opensearch.yml.in" >"$home/config/opensearch.yml"
  opensearch_user "$1"
  if [[ ${as[0]:-} == setpriv ]]; then
    chown -R 65534:65534 "$1/data" "$home"/{config,logs,tmp}
  fi
}

opensearch_exec() {
  local home=$1/home heap=${OPENSEARCH_HEAP:-1g} as java
  opensearch_user "$1"
  java=$(java_home)
  export OPENSEARCH_HOME=$home OPENSEARCH_PATH_CONF=$home/config OPENSEARCH_TMPDIR=$home/tmp HOME=$home/tmp
  export OPENSEARCH_JAVA_HOME=$java OPENSEARCH_JAVA_OPTS="-Xms$heap -Xmx$heap ${jvm_flags[*]} -Djna.tmpdir=$home/tmp"
  # The start script touches the whole heap in advance; a test server rarely needs all of it.
  OPENSEARCH_JAVA_OPTS+=" -XX:-AlwaysPreTouch"
  exec setsid "${as[@]}" "$home/bin/opensearch"
}

opensearch_ready() {
  need curl "on Debian: apt-get install curl"
  curl -fsS --noproxy '*' -o /dev/null --max-time 5 \
    "http://127.0.0.1:$2/_cluster/health?wait_for_status=yellow&timeout=3s" 2>/dev/null
}

opensearch_address() { printf 'MILLRACE_TEST_OPENSEARCH=http://127.0.0.1:%s\n' "$1"; }
