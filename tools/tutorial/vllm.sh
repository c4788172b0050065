#!/bin/sh
# `vllm serve` as far as KServe's templates use it: epp-sim with the same model, port and adapters.
if [ "$1" = --version ]; then echo 0.24.0; exit; fi
test "$1" = serve || { echo "vllm: only serve, not $1" >&2; exit 2; }
shift
set -f
port=8000 names= adapters=
while [ $# -gt 0 ]; do
    case $1 in
    --port) port=$2; shift ;;
    --port=*) port=${1#*=} ;;
    --served-model-name)
        while [ $# -gt 1 ] && [ "${2#-}" = "$2" ]; do names="$names --model $2"; shift; done ;;
    --lora-modules)
        while [ $# -gt 1 ] && [ "${2#-}" = "$2" ]; do
            # name=path, or JSON with the name in it
            name=$(printf %s "$2" | sed -n 's/.*"name": *"\([^"]*\)".*/\1/p')
            adapters="$adapters,${name:-${2%%=*}}"; shift
        done ;;
    esac
    shift
done
exec /app/epp-sim --host 0.0.0.0 --port "$port" --name "$HOSTNAME" --speed 20 $names \
    ${adapters:+--lora "${adapters#,}"}
