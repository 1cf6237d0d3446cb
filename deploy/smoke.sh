#!/usr/bin/env bash
# Starts docker-compose.kafka.yml, uploads one of the shipped recordings, waits for it and searches it. Needs Docker.
set -euo pipefail
cd "$(dirname "$0")/.."

export EARSHOT_API_KEY="${EARSHOT_API_KEY:-$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))')}"
export POSTGRES_PASSWORD="${POSTGRES_PASSWORD:-$(python3 -c 'import secrets; print(secrets.token_hex(16))')}"
base=http://127.0.0.1:${EARSHOT_PORT:-8080}/api/v1
audio=$(find examples/audio -name '*.flac' -o -name '*.mp3' -o -name '*.wav' -o -name '*.ogg' -o -name '*.opus' | sort | head -1)

ask() { curl --silent --show-error --fail-with-body --max-time 60 -H "Authorization: Bearer $EARSHOT_API_KEY" "$@"; }
field() { python3 -c 'import json, sys
answer = json.load(sys.stdin)
for name in sys.argv[1:]: answer = answer[int(name) if name.isdigit() else name]
print(answer)' "$@"; }

docker compose -f docker-compose.kafka.yml up --build --detach --wait --wait-timeout 600

job=$(ask -F "file=@$audio" "$base/ingest" | field id)
for _ in $(seq 120); do
  state=$(ask "$base/jobs/$job" | field state)
  echo "job $job: $state"
  case "$state" in completed) break ;; failed | cancelled) exit 1 ;; esac
  sleep 2
done
[ "$state" = completed ]

recording=$(ask "$base/jobs/$job" | field recording_id)
text=$(ask "$base/recordings/$recording/transcript?format=txt" | tr '\n' ' ' | cut -d' ' -f1-8)
found=$(python3 -c 'import json, sys; print(json.dumps({"query": sys.argv[1], "top_k": 1}))' "$text" |
  ask -H 'content-type: application/json' -d @- "$base/query" | field hits 0 recording_id)
[ "$found" = "$recording" ] && echo "Found again: $text"
