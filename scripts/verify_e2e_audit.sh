#!/usr/bin/env bash
# Proves the way of one trace id: POST /plan -> X-Trace-ID on the response -> the notification subscriber's log
# -> rows in the audit log. Against docker compose, or with --bare-metal against the mesh of `make run-dev`.
#   PAGI_URL      the planner (default http://127.0.0.1:${AGENT_PLANNER_PORT:-8585})
#   PAGI_API_KEY  sent where it is set
#   WAIT_SECONDS  the longest wait for the notification and for the last row (default 20)
set -euo pipefail
cd "$(dirname "$0")/.."

mode=compose
case ${1:-} in
  "") ;;
  --bare-metal) mode=bare-metal ;;
  *)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

# What a shell does not say may stand in .env, which the mesh reads, too.
for name in AGENT_PLANNER_PORT PAGI_API_KEY PAGI_AUDIT_DB_PATH; do
  if [ -z "${!name:-}" ] && [ -f .env ]; then
    value=$(sed -nE "s/^[[:space:]]*(export[[:space:]]+)?$name[[:space:]]*=[[:space:]]*//p" .env | tail -n 1)
    value=$(printf '%s' "$value" | sed -E "s/[[:space:]]+#.*$//; s/[[:space:]]+$//; s/^([\"'])(.*)\1$/\2/")
    printf -v "$name" %s "$value"
  fi
done

url=${PAGI_URL:-http://127.0.0.1:${AGENT_PLANNER_PORT:-8585}}
wait_s=${WAIT_SECONDS:-20}
subscriber_log=data/logs/notification-subscriber.log
database=${PAGI_AUDIT_DB_PATH:-data/pagi_audit.db}
if [ "$mode" = compose ]; then
  subscriber_says="docker compose logs notification-subscriber"
  planner_says="docker compose logs agent-planner"
else
  subscriber_says="tail $subscriber_log"
  planner_says="tail data/logs/agent-planner.log"
fi

ok() { printf '%-10s %s\n' OK "$1"; }
fail() { # what was checked, what was seen, what to look at
  printf '%-10s %s\n' FAILED "$1"
  printf '           %s\n           look at: %s\n' "$2" "$3" >&2
  exit 1
}

python=${PYTHON:-}
for candidate in .venv/bin/python python3 python; do
  [ -n "$python" ] || { command -v "$candidate" >/dev/null 2>&1 && python=$candidate; }
done
for tool in curl "${python:-python3}"; do
  command -v "$tool" >/dev/null || fail "tools" "$tool is missing" "your package manager"
done
if [ "$mode" = compose ]; then
  docker compose version >/dev/null 2>&1 || fail "tools" "docker compose is missing" "--bare-metal, for make run-dev"
fi

trace_id=$("$python" -c 'import secrets; print(secrets.token_hex(16))')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# 1. The plan is made.
headers=(-H 'Content-Type: application/json' -H "X-Trace-ID: $trace_id")
[ -z "${PAGI_API_KEY:-}" ] || headers+=(-H "X-API-Key: $PAGI_API_KEY")
body='{"prompt": "What is (100 + 50) * 2?", "session_id": "verify-e2e-audit"}'
status=$(curl -sS -m 60 -o "$work/answer" -D "$work/headers" -w '%{http_code}' -X POST "$url/plan" \
  "${headers[@]}" -d "$body" 2>"$work/error") ||
  fail "POST $url/plan" "$(cat "$work/error")" "is it running? docker compose up --build --wait, or make run-dev"
[ "$status" = 200 ] || fail "POST $url/plan" "status $status: $(head -c 500 "$work/answer")" "$planner_says"
ok "POST $url/plan answered 200"

# 2. The answer carries the id that was sent.
echoed=$(tr -d '\r' <"$work/headers" | awk 'tolower($1) == "x-trace-id:" { print $2 }')
[ "$echoed" = "$trace_id" ] || fail "X-Trace-ID on the response" "sent $trace_id, got '${echoed:-nothing}'" "$planner_says"
ok "X-Trace-ID on the response is $trace_id"

# Runs a check until it succeeds or the time is over.
eventually() {
  local deadline=$((SECONDS + wait_s))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# 3. The subscriber delivered it: one line of its log is a notification of this trace that says COMPLETED.
notified() {
  if [ "$mode" = compose ]; then
    docker compose logs --no-log-prefix --since 10m notification-subscriber >"$work/log" 2>&1
  else
    cp "$subscriber_log" "$work/log" 2>"$work/error"
  fi && grep -F "$trace_id" "$work/log" >"$work/lines" && grep -q '"status": *"COMPLETED"' "$work/lines"
}
eventually notified ||
  fail "trace id in the subscriber's log" "no line with it and COMPLETED within $wait_s s" "$subscriber_says; is Redis up?"
ok "the notification subscriber logged it as COMPLETED"

# 4. The audit log has the run, from its start to its end.
audit() {
  if [ "$mode" = compose ]; then
    docker compose exec -T agent-planner python - --json "$trace_id" <scripts/inspect_audit.py
  else
    "$python" scripts/inspect_audit.py --db "$database" --json "$trace_id"
  fi >"$work/rows" 2>"$work/error"
}
has_row() { audit && grep -q "\"event_type\": \"$1\"" "$work/rows"; }
for event in PLAN_START PLAN_END; do
  eventually has_row "$event" ||
    fail "audit row $event" "$(cat "$work/error") (rows seen: $(wc -l <"$work/rows"))" "$planner_says; $database"
  ok "the audit log has $event"
done
ok "the audit log has $(wc -l <"$work/rows" | tr -d ' ') rows of the trace: $(
  "$python" -c 'import json, sys; print(" ".join(json.loads(line)["event_type"] for line in sys.stdin))' <"$work/rows"
)"
