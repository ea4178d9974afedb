got() { printf '\nABUSE ["got", "%s", ""]\n' "$1"; }
held() { printf '\nABUSE ["held", "%s", ""]\n' "$1"; }
ok() { printf '\nABUSE ["ok", "%s", ""]\n' "$1"; }
# What it does must not come off.
try() { what=$1; shift; if "$@" >/dev/null 2>&1; then got "$what"; else held "$what"; fi; }
