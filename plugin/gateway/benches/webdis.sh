#!/bin/sh
# The gateway against webdis: decisions a second and latency at 32 connections, in turns on the same Redis.
# Usage: webdis.sh [GATEWAY_BINARY [SECONDS [ROUNDS]]]; needs redis-server, redis-cli, webdis, wrk and curl. Starts
# everything on loopback ports of its own and ends it. Not here: Sentinel and Cluster, which webdis does not have.
set -eu
for tool in redis-server redis-cli webdis wrk curl; do
    command -v "$tool" > /dev/null || { echo "webdis.sh: $tool is not installed" >&2; exit 2; }
done
gateway=${1:-target/release/tidegate-gateway}
seconds=${2:-2}
rounds=${3:-15}
redis_port=${BENCH_PORT:-21901} gateway_port=$((redis_port + 1)) webdis_port=$((redis_port + 2))
folder=$(mktemp -d)
pids=
finish() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$folder"
}
trap finish EXIT INT TERM

# One decision: GCRA at 10^6/s, so that all conform and every call writes.
cat > "$folder/gcra.lua" <<'LUA'
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local tat = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now)
local new = tat + ARGV[1] * ARGV[3]
if new - now > ARGV[2] + 0 then return {0, math.ceil(new - now - ARGV[2])} end
redis.call('SET', KEYS[1], string.format('%.0f', new), 'PX', math.ceil((new - now) / 1000) + 1)
return {1, 0}
LUA

redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$folder" > "$folder/redis.log" &
pids="$pids $!"
cat > "$folder/webdis.json" <<JSON
{"redis_host": "127.0.0.1", "redis_port": $redis_port, "redis_auth": null, "http_host": "127.0.0.1",
 "http_port": $webdis_port, "threads": 2, "pool_size": 4, "daemonize": false, "database": 0,
 "acl": [{"disabled": []}], "verbosity": 1, "logfile": "$folder/webdis.log"}
JSON
webdis "$folder/webdis.json" > "$folder/webdis.out" 2>&1 &
webdis_pid=$!
pids="$pids $webdis_pid"
token=bench-only-token-0123456789
"$gateway" --redis "redis://127.0.0.1:$redis_port" --listen "127.0.0.1:$gateway_port" --token $token --allow-scripts \
    --log-level warn ${GATEWAY_FLAGS:-} 2> "$folder/gateway.log" &
gateway_pid=$!
pids="$pids $gateway_pid"
for port in "$gateway_port" "$webdis_port"; do
    until curl -s -o /dev/null "http://127.0.0.1:$port/" && redis-cli -p "$redis_port" PING > /dev/null 2>&1; do sleep 0.1; done
done

sha=$(redis-cli -p "$redis_port" -x SCRIPT LOAD < "$folder/gcra.lua")
# The script as the gateway saw it: SCRIPT LOAD through it, so that it could send it again.
text=$(sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' "$folder/gcra.lua" | awk '{printf "%s\\n", $0}')
until curl -sf -H "Authorization: Bearer $token" "http://127.0.0.1:$gateway_port/healthz" > /dev/null; do sleep 0.1; done
curl -sf -H "Authorization: Bearer $token" -d "[\"SCRIPT\",\"LOAD\",\"$text\"]" "http://127.0.0.1:$gateway_port/" > /dev/null

# Processor time of a process so far, in clock ticks.
ticks() { # pid
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}

# wrk counts a reply of another shape as an error: both must say {1,0}.
load() { # name port headers body expected pid
    cat > "$folder/$1.lua" <<LUA
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
$3
local n = 0
function request()
    n = n + 1
    return wrk.format(nil, "/", nil, (string.gsub([=[$4]=], "KEY", "k" .. n % 1000)))
end
function response(status, headers, body)
    if status ~= 200 or not string.find(body, [=[$5]=], 1, true) then wrong = (wrong or 0) + 1; print("wrong: " .. status .. " " .. body) end
end
LUA
    before=$(ticks "$6")
    wrk -t1 -c32 -d"${seconds}s" --latency -s "$folder/$1.lua" "http://127.0.0.1:$2/" > "$folder/$1.out" 2>&1
    # A script that wrk cannot load leaves it asking for something else, quickly.
    if grep -Eq '^wrong|Non-2xx|lua:|Socket errors' "$folder/$1.out"; then grep -Em3 '^wrong|Non-2xx|lua:|Socket' "$folder/$1.out"; exit 1; fi
    used=$(($(ticks "$6") - before))
    awk -v name="$1" -v round="$round" -v used="$used" -v hz="$(getconf CLK_TCK)" '
        $1 == "50%" { p50 = $2 } $1 == "99%" { p99 = $2 } $1 == "Requests/sec:" { rate = $2 }
        $2 == "requests" && $3 == "in" { count = $1 }
        END { printf "%-8s round %2s  %9.0f decisions/s  p50 %8s  p99 %8s  cpu %5.1f us\n",
            name, round, rate, p50, p99, used / hz * 1e6 / count }' "$folder/$1.out" \
        | tee -a "$folder/all.out"
}

# The median of one column, in milliseconds where it is a time.
median() { # name column
    awk -v name="$1" -v column="$2" '$1 == name { v = $column; n = v + 0; if (v ~ /us$/) n /= 1000; print n }' \
        "$folder/all.out" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

for round in $(seq 1 "$rounds"); do
    load gateway "$gateway_port" "wrk.headers['Authorization'] = 'Bearer $token'" \
        "[\"EVALSHA\",\"$sha\",1,\"KEY\",1,1000000,1]" '{"result":[1,0]}' "$gateway_pid"
    load webdis "$webdis_port" "" "EVALSHA/$sha/1/KEY/1/1000000/1" '{"EVALSHA":[1,0]}' "$webdis_pid"
done
for name in gateway webdis; do
    echo "$name: medians $(median $name 4) decisions/s, p50 $(median $name 7) ms, p99 $(median $name 9) ms," \
        "processor $(median $name 11) us a decision"
done
