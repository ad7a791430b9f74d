#!/bin/sh
# The public client grpcurl lists, describes and calls a running server over TCP and a unix socket.
# usage: grpcurl_test.sh SERVER; SERVER is the example server of the tests.
set -eu
grpcurl=${RMJOB_GRPCURL:-}
[ -n "$grpcurl" ] || grpcurl=$(command -v grpcurl || true)
[ -n "$grpcurl" ] || grpcurl=${RMJOB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rmjob}/tools/grpcurl
if [ ! -x "$grpcurl" ]; then
    echo "SKIP: no grpcurl in RMJOB_GRPCURL, PATH or the cache (scripts/toolchains/go-tools grpcurl builds it)"
    exit 77
fi
work=$(mktemp -d)
: >"$work/addresses"
"$1" "unix:$work/socket" 127.0.0.1:0 >"$work/addresses" &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$work"' EXIT
tries=0
while [ "$(wc -l <"$work/addresses")" -lt 2 ]; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "the server does not start"; exit 1; }
    sleep 0.1
done
tcp=$(sed -n 2p "$work/addresses")

# wants NAME TEXT COMMAND...: the output of the command holds the text.
wants() {
    name=$1 text=$2
    shift 2
    output=$("$@" 2>&1) || true
    case $output in
    *"$text"*) echo "ok   $name" ;;
    *)
        echo "FAIL $name: no \"$text\" in:"
        echo "$output"
        exit 1
        ;;
    esac
}

for address in "$tcp" "unix:$work/socket"; do
    run="$grpcurl -plaintext -max-time 20"
    wants list rmjob.v1.Jobs $run "$address" list
    wants "list methods" rmjob.v1.Jobs.Watch $run "$address" list rmjob.v1.Jobs
    wants "describe service" "rpc Get ( .rmjob.v1.GetJobRequest ) returns ( .rmjob.v1.Job )" \
        $run "$address" describe rmjob.v1.Jobs
    wants "describe message" "optional double learning_rate" $run "$address" describe rmjob.v1.TrainSpec
    wants "describe enum" "as_given" $run "$address" describe rmjob.v1.DataOrder
    wants "describe reflection" "ServerReflectionInfo" $run "$address" describe grpc.reflection.v1.ServerReflection
    wants "describe unknown" "not" $run "$address" describe rmjob.v1.Nothing
    wants call '"id": "rm-1"' $run -d '{"job": "rm-1"}' "$address" rmjob.v1.Jobs/Get
    wants stream '"sequence": "3"' $run -d '{"job": "rm-1"}' "$address" rmjob.v1.Jobs/Watch
    wants health '"status": "SERVING"' $run "$address" grpc.health.v1.Health/Check
    wants refusal "NotFound" $run -d '{"job": "none"}' "$address" rmjob.v1.Jobs/Get
done
