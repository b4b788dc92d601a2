#!/usr/bin/env bash
# Starts one run in 1 to 4 processes by --processes, by torchrun and by mpirun, and in two network
# namespaces that stand for two machines: all adapters must have the same bytes. Then lets a process
# stop, another base and a used port get in the way, and shows the sentence and the exit status of
# each. It is no part of the suite.
#
#   check_processes.sh LOWRANK     the command, built with the LibTorch that torchrun belongs to
#
# Needs MNIST where `lowrank data fetch mnist` puts it, torchrun ($TORCHRUN; python3-torch has one),
# mpirun (openmpi-bin), and for the namespaces ip (iproute2) and root.
set -euo pipefail

lowrank=$(realpath "${1:?"check_processes.sh: the lowrank command must be named"}")
torchrun=${TORCHRUN:-torchrun}
work=$(mktemp -d)
trap 'remove_machines; rm -rf "$work"' EXIT
cd "$work"

readonly data=(--data mnist --threads 1 --quiet)
readonly run=(finetune "$work/base" "${data[@]}" --only 2 --replay 0.5 --rank 2 --dropout 0.1
  --accumulate 4 --steps 20 --validation 0.01)
readonly machines=(lowrank-a lowrank-b) net=10.213.7

remove_machines() {
  for machine in "${machines[@]}"; do ip netns del "$machine" 2> /dev/null || true; done
}

make_machines() {
  remove_machines
  for machine in "${machines[@]}"; do ip netns add "$machine"; done
  ip link add name veth-a netns "${machines[0]}" type veth peer name veth-b netns "${machines[1]}"
  ip -n "${machines[0]}" addr add "$net.1/24" dev veth-a
  ip -n "${machines[1]}" addr add "$net.2/24" dev veth-b
  ip -n "${machines[0]}" link set veth-a up
  ip -n "${machines[1]}" link set veth-b up
  for machine in "${machines[@]}"; do ip -n "$machine" link set lo up; done
}

# Runs the arguments as process RANK of two on its own machine, in its own folder.
on_machine() {  # rank, port, arguments...
  cd "$work/machine-$1"
  RANK=$1 WORLD_SIZE=2 MASTER_ADDR=$net.1 MASTER_PORT=$2 \
    exec ip netns exec "${machines[$1]}" "$lowrank" "${@:3}"
}

same() {  # name: compares the adapter with the first one
  local sum
  sum=$(sha256sum < "$1/adapter_model.safetensors")
  first=${first:-$sum}
  printf '%-14s %s\n' "$1" "${sum:0:16}"
  [ "$sum" = "$first" ] || { echo "$1 differs" >&2; exit 1; }
}

# Runs two processes on the two machines, and shows what each said and how it ended.
show() {  # title, port, arguments...
  local pids=() rank
  echo "-- $1"
  for rank in 0 1; do
    on_machine "$rank" "${@:2}" 2> "$work/said-$rank" > /dev/null &
    pids+=($!)
  done
  ${meanwhile:-true} "${pids[@]}"
  for rank in 0 1; do
    local status=0
    wait "${pids[$rank]}" || status=$?
    printf 'process %d, status %d: %s\n' "$rank" "$status" "$(tail -n 1 "$work/said-$rank")"
  done
}

stop_one() {
  for ((i = 0; i < 300; ++i)); do
    if [ -e "$work/machine-0/stopped/checkpoint.safetensors" ]; then break; fi
    sleep 0.1
  done
  kill -STOP "$2"
  sleep 8
  kill -KILL "$2"
}

"$lowrank" train "${data[@]}" --seed 0 --steps 100 --out base > /dev/null
"$lowrank" train "${data[@]}" --seed 1 --steps 1 --out other > /dev/null

for count in 1 2 3 4; do
  "$lowrank" "${run[@]}" --processes "$count" --out "processes-$count" > /dev/null
  same "processes-$count"
  "$torchrun" --no_python -r 1 -t 1 --nproc_per_node "$count" \
    "$lowrank" "${run[@]}" --out "torchrun-$count" > /dev/null 2> said || { cat said; exit 1; }
  same "torchrun-$count"
  mpirun --allow-run-as-root --oversubscribe -np "$count" \
    "$lowrank" "${run[@]}" --out "mpirun-$count" > /dev/null
  same "mpirun-$count"
done

make_machines
mkdir machine-0 machine-1
on_machine 1 29516 "${run[@]}" --out machines > /dev/null &
on_machine 0 29516 "${run[@]}" --out machines > /dev/null &
wait
mv machine-0/machines .
same machines

cp -r base machine-0/base
cp -r other machine-1/base
readonly brief=(finetune base "${data[@]}" --accumulate 4 --rank 2 --timeout 3)
show "another base in process 1" 29517 "${brief[@]}" --steps 5 --out different
cp base/* machine-1/base
meanwhile=stop_one show "process 1 is stopped" 29518 "${brief[@]}" --steps 100000 --out stopped
ip netns exec "${machines[0]}" python3 -c 'import socket, time
s = socket.socket(); s.bind(("", 29519)); s.listen(); time.sleep(20)' &
holder=$!
sleep 1
show "a used port" 29519 "${brief[@]}" --steps 5 --out port
kill "$holder" 2> /dev/null || true
echo "all adapters are the same"
