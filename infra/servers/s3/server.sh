# An S3 endpoint for tests of the object store: moto, in memory, any credentials. Started only when
# asked for by name. Sourced by ../servers, which says what each function is for.
# shellcheck shell=bash disable=SC2154 # here, dir and jvm_flags are set by ../servers

s3_install() {
  need python3 "on Debian: apt-get install python3-venv"
  python3 -m venv "$1/venv" >&2
  "$1/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/s3/requirements.txt" >&2
}

s3_prepare() { :; }

s3_exec() { exec setsid "$1/home/venv/bin/python" "$1/home/venv/bin/moto_server" --host 127.0.0.1 --port "$2"; }

s3_ready() { curl -fsS --noproxy '*' -o /dev/null --max-time 5 "http://127.0.0.1:$2/moto-api/" 2>/dev/null; }

s3_address() { printf 'MILLRACE_TEST_S3=http://127.0.0.1:%s\n' "$1"; }
