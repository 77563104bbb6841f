# Sourced by the scripts beside it: enters the checkout, and finds a Python that can make the environment.
# bash forgets a SIGINT that comes while a command runs, unless a trap is set; exec takes the traps away again.
trap 'exit 130' INT
trap 'exit 143' TERM HUP
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for python in python3 python3.14 python3.13 python3.12 python3.11 ""; do
  [ -n "$python" ] || { echo "Python 3.11 or newer is needed: install the packages python3 and python3-venv." >&2; exit 1; }
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done
# Become that Python with signals held back, where `env` can: one that comes while the interpreter itself starts would end it
# with a fatal error. cli/install.py lets them through once it has its handlers.
become() {
  if env --block-signal=INT true 2>/dev/null; then
    exec env --block-signal=INT --block-signal=TERM --block-signal=HUP "$@"
  fi
  exec "$@"
}
