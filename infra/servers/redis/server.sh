# Redis for tests of the joiner's state, as Debian packages it. Started only when asked for by name.
# Sourced by ../servers, which says what each function is for.
# shellcheck shell=bash disable=SC2154 # here, dir and jvm_flags are set by ../servers

redis_install() {
  need redis-server "on Debian: apt-get install redis-server"
  # What is installed is the system's; our own link to it puts our folder on the command line.
  ln -s "$(command -v redis-server)" "$1/redis-server"
}

redis_prepare() {
  cat >"$1/redis.conf" <<EOF
bind 127.0.0.1
port $2
dir $1/data
appendonly yes
appendfsync everysec
save ""
set-proc-title no
EOF
}

redis_exec() { exec setsid "$1/home/redis-server" "$1/redis.conf"; }

redis_ready() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
  printf 'PING\r\n' >&3
  read -r -t 5 answer <&3
  exec 3>&-
  [[ $answer == +PONG* ]]
} 2>/dev/null

redis_address() { printf 'MILLRACE_TEST_REDIS=redis://127.0.0.1:%s\n' "$1"; }
