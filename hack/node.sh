#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# A real Kubernetes node with its control plane, in a network namespace that has no way out: for trying things on pods.
#
#   node.sh check         says what this machine lacks for it; ends 0 when it lacks nothing
#   node.sh deps          installs that, on a Debian-like machine
#   node.sh up            starts it; ends when the node is Ready
#   node.sh load FILE...  imports images from OCI archives
#   node.sh exec CMD...   runs a command where the cluster can be reached, with KUBECONFIG set and kubectl in PATH
#   node.sh down          stops everything and forgets it
#
# State and logs: ${WEBHOOK_NODE_DIR:-/tmp/webhook-node}. Needs root and Linux.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${WEBHOOK_NODE_DIR:-${TMPDIR:-/tmp}/webhook-node}
netns=webhook-node
bridge=10.88.0.1
plugins=/usr/lib/cni
containerd_socket=$dir/containerd/containerd.sock

say() { printf 'node: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# --- the machine ---

lacks() { # the reasons why it cannot work here, one a line
  [ "$(uname -s)" = Linux ] || { echo "this is no Linux"; return; }
  [ "$(id -u)" = 0 ] || echo "it needs root: network namespaces, cgroups and mounts are made"
  local tool
  for tool in ip nsenter nft conntrack runc openssl mount; do
    command -v "$tool" >/dev/null || echo "$tool is not in PATH"
  done
  [ -x "$plugins/bridge" ] || echo "the CNI plugins are not in $plugins"
  grep -q overlay /proc/filesystems || echo "the kernel has no overlay file system"
}

check() {
  local reasons
  reasons=$(lacks)
  [ -n "$reasons" ] || return 0
  printf '%s\n' "$reasons" | sed 's/^/node: /' >&2
  return 1
}

deps() {
  check 2>/dev/null && return
  command -v apt-get >/dev/null || die "install by hand: iproute2 util-linux nftables conntrack runc openssl, and the CNI plugins in $plugins"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    iproute2 util-linux nftables conntrack runc openssl containernetworking-plugins
  check
}

# --- certificates ---

certificates() {
  mkdir -p "$dir/pki"
  cd "$dir/pki"
  openssl genrsa -out sa.key 2048 2>/dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=node-ca -days 30 2>/dev/null
  cat >extensions <<-E
	subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:node1,IP:127.0.0.1,IP:10.96.0.1,IP:$bridge
	extendedKeyUsage=serverAuth,clientAuth
	E
  certificate apiserver /CN=kube-apiserver
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate kubelet /O=system:nodes/CN=system:node:node1
  certificate proxy /CN=system:kube-proxy
  certificate front-proxy /CN=front-proxy
}

certificate() { # certificate NAME SUBJECT
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 30 -extfile extensions 2>/dev/null
}

kubeconfig() { # kubeconfig NAME
  cat >"$dir/$1.kubeconfig" <<-E
	apiVersion: v1
	kind: Config
	clusters: [{name: node, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $dir/pki/ca.crt}}]
	users: [{name: it, user: {client-certificate: $dir/pki/$1.crt, client-key: $dir/pki/$1.key}}]
	contexts: [{name: it, context: {cluster: node, user: it}}]
	current-context: it
	E
}

# --- processes ---

start() { # start NAME COMMAND...
  local name=$1
  shift
  # Each of these replaces itself by the next, so the id is that of the command.
  nsenter --net="/var/run/netns/$netns" setsid nohup "$@" >"$dir/$name.log" 2>&1 </dev/null &
  echo $! >"$dir/$name.pid"
}

inside() { nsenter --net="/var/run/netns/$netns" "$@"; }

await() { # await SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || die "$what is not ready; see the logs in $dir"
    sleep 0.2
  done
}

kube() { inside "$control/kubectl" --kubeconfig "$dir/admin.kubeconfig" "$@"; }

network() {
  ip netns add "$netns"
  # Not `ip netns exec`, here and below: it mounts a fresh /sys, which hides the cgroups.
  inside ip link set lo up
  inside ip link add cni0 type bridge
  inside ip addr add "$bridge/16" dev cni0
  inside ip link set cni0 up
  # Without a route the node itself gets ENETUNREACH before kube-proxy's rules can act.
  inside ip route add 10.96.0.0/16 dev cni0
  inside sysctl -qw net.ipv4.ip_forward=1
}

control_plane() {
  local pki=$dir/pki
  # Who asked for what: the rights of the operator are compared with it.
  cat >"$dir/audit.yaml" <<-E
	apiVersion: audit.k8s.io/v1
	kind: Policy
	omitStages: [RequestReceived, ResponseStarted]
	rules:
	- {level: Metadata, userGroups: ["system:serviceaccounts:webhook-system"]}
	- {level: None}
	E
  start etcd "$control/etcd" --data-dir "$dir/etcd" --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  # The advertised address may not be loopback.
  start apiserver "$control/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 \
    --bind-address=0.0.0.0 --advertise-address="$bridge" --service-cluster-ip-range=10.96.0.0/16 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/sa.pub" \
    --service-account-signing-key-file="$pki/sa.key" --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged \
    --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User \
    --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" \
    --audit-policy-file="$dir/audit.yaml" --audit-log-path="$dir/audit.log"
  await 90 "the API server" kube get --raw /readyz
  start controller-manager "$node/kube-controller-manager" --kubeconfig "$dir/controller-manager.kubeconfig" \
    --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" --use-service-account-credentials \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" --leader-elect=false
  start scheduler "$node/kube-scheduler" --kubeconfig "$dir/scheduler.kubeconfig" --leader-elect=false
}

runtime() {
  mkdir -p "$dir/containerd" "$dir/cni"
  cat >"$dir/containerd/config.toml" <<-E
	version = 3
	root = "$dir/containerd/root"
	state = "$dir/containerd/state"
	[grpc]
	  address = "$containerd_socket"
	[plugins.'io.containerd.cri.v1.images'.pinned_images]
	  sandbox = "webhook-node.invalid/pause:1"
	[plugins.'io.containerd.cri.v1.runtime']
	  restrict_oom_score_adj = true
	  netns_mounts_under_state_dir = true
	[plugins.'io.containerd.cri.v1.runtime'.cni]
	  bin_dirs = ["$plugins"]
	  conf_dir = "$dir/cni"
	[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
	  runtime_type = "io.containerd.runc.v2"
	E
  cat >"$dir/cni/10-bridge.conflist" <<-E
	{"cniVersion": "1.0.0", "name": "pods", "plugins": [
	  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
	   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16", "gateway": "$bridge"}]],
	            "routes": [{"dst": "0.0.0.0/0"}]}},
	  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	E
  start containerd env PATH="$node:$PATH" "$node/containerd" -c "$dir/containerd/config.toml"
  await 30 containerd "$node/ctr" -a "$containerd_socket" version
}

kubelet() {
  echo "nameserver 10.96.0.10" >"$dir/resolv.conf"
  mkdir -p "$dir/plugins"
  cat >"$dir/kubelet.yaml" <<-E
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	cgroupDriver: cgroupfs
	failCgroupV1: false
	failSwapOn: false
	containerRuntimeEndpoint: unix://$containerd_socket
	authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $dir/pki/ca.crt}, webhook: {enabled: true}}
	authorization: {mode: Webhook}
	clusterDomain: cluster.local
	clusterDNS: ["10.96.0.10"]
	tlsCertFile: $dir/pki/kubelet.crt
	tlsPrivateKeyFile: $dir/pki/kubelet.key
	evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
	enforceNodeAllocatable: []
	volumePluginDir: $dir/plugins
	resolvConf: $dir/resolv.conf
	imageGCHighThresholdPercent: 100
	E
  start kubelet env PATH="$node:$PATH" "$node/kubelet" --kubeconfig "$dir/kubelet.kubeconfig" --config "$dir/kubelet.yaml" \
    --hostname-override node1 --root-dir "$dir/kubelet" --node-ip "$bridge"
  start proxy "$node/kube-proxy" --kubeconfig "$dir/proxy.kubeconfig" --cluster-cidr 10.88.0.0/16 --proxy-mode nftables \
    --hostname-override node1 --conntrack-max-per-core 0
  await 60 "the node" kube wait --for=condition=Ready node/node1 --timeout=1s
}

programs() { # the folders with what is run
  control=$("$here/control-plane.sh")
  node=$("$here/node-programs.sh")
  pack=$here/../bin/oci
  [ -x "$pack" ] || (cd "$here/oci" && GOFLAGS='' GOWORK=off go build -o "$pack" .)
}

up() {
  check || die "this machine cannot run a node; node.sh deps installs what is missing"
  [ ! -e "/var/run/netns/$netns" ] || die "it runs already, or was not stopped: node.sh down"
  programs
  mkdir -p "$dir"
  certificates
  local name
  for name in admin controller-manager scheduler kubelet proxy; do kubeconfig "$name"; done
  network
  control_plane
  runtime
  "$pack" -name webhook-node.invalid/pause:1 -out "$dir/pause.tar" "$node/pause"
  "$pack" -name webhook-node.invalid/coredns:1 -out "$dir/coredns.tar" "$node/coredns"
  load "$dir/pause.tar" "$dir/coredns.tar"
  kubelet
  kube apply -f "$here/node/coredns.yaml" >/dev/null
  kube -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null
  say "ready: $0 exec kubectl get nodes"
}

load() {
  local file
  for file in "$@"; do "$node/ctr" -a "$containerd_socket" -n k8s.io images import "$file" >/dev/null 2>"$dir/import.log" || die "import of $file: $(cat "$dir/import.log")"; done
}

execute() {
  programs
  KUBECONFIG=$dir/admin.kubeconfig WEBHOOK_NODE_DIR=$dir PATH="$control:$node:$PATH" exec nsenter --net="/var/run/netns/$netns" "$@"
}

# --- the end ---

stop() { # stop NAME SIGNAL: by the process id that was kept
  local file=$dir/$1.pid pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  kill -s "$2" "$pid" 2>/dev/null || true
  local tries=50
  while kill -0 "$pid" 2>/dev/null && [ $((tries--)) -gt 0 ]; do sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$file"
}

down() {
  stop kubelet TERM
  local name shim
  for name in proxy scheduler controller-manager; do stop "$name" TERM; done
  # The shims are containerd's children no more, but each names our socket.
  for shim in $(pgrep -f "containerd-shim-runc-v2 .*$dir/" || true); do
    # shellcheck disable=SC2046 # a list of process ids
    kill -9 $(pgrep -P "$shim") 2>/dev/null || true
    kill -9 "$shim" 2>/dev/null || true
  done
  stop containerd TERM
  stop apiserver KILL
  stop etcd KILL
  { grep -o " $dir[^ ]*" /proc/mounts || true; } | tr -d ' ' | sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null || true; done
  [ ! -e "/var/run/netns/$netns" ] || ip netns del "$netns"
  rm -rf "$dir"
}

case ${1:-} in
  check | deps | up | down) "$1" ;;
  load) shift; programs; load "$@" ;;
  exec) shift; execute "$@" ;;
  *) sed -n '6,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
