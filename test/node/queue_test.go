//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// lossTime is a minute for the pod and its dispatcher to be away, and some more to look and write.
const lossTime = 4 * time.Minute

// refusesFirst answers 503 to the first request of an event and 200 to the next.
func (n *tenant) refusesFirst() *receiver.Receiver {
	n.t.Helper()
	r, err := receiver.Start(ca, receiver.Options{Addr: nodeAddress + ":0", Hosts: []string{nodeAddress}, PerEvent: true,
		Script: []receiver.Step{{Status: 503}, {}}, Test: &receiver.Step{}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(r.Close)
	return r
}

// waitsForRetry posts one event from a pod and returns once its delivery waits for its retry.
func (n *tenant) waitsForRetry(endpoint string, r *receiver.Receiver, app func()) {
	n.t.Helper()
	before := len(arrived(r.Requests()))
	app()
	eventually(n.t, soon, func() error {
		if len(arrived(r.Requests())) == before {
			return fmt.Errorf("no event has come")
		}
		for _, a := range n.attempts() {
			if a.Spec.EndpointRef.Name == endpoint && a.Status.Outcome == v1alpha1.DeliveryRetrying {
				return nil
			}
		}
		return fmt.Errorf("no record says that a delivery waits for its retry")
	})
}

// twoRequests waits until the one event came a second time, under the same id.
func (n *tenant) twoRequests(r *receiver.Receiver, limit time.Duration) {
	n.t.Helper()
	eventually(n.t, limit, func() error {
		seen := arrived(r.Requests())
		if len(seen) != 1 {
			return fmt.Errorf("%d ids, want one", len(seen))
		}
		for id, times := range seen {
			if times < 2 {
				return fmt.Errorf("event %s came %d times", id, times)
			}
		}
		return nil
	})
}

// Without a gateway, what a pod leaves behind is lost, and said to be: when it is deleted, and when it has no time at all,
// as with a node that is lost.
func TestWithoutAGatewayALossIsReported(t *testing.T) {
	for name, remove := range map[string]func(t *testing.T, n *tenant){
		"deleted": func(t *testing.T, n *tenant) {
			must(t, "-n", n.namespace, "delete", "deployment/agent", "--wait=false")
		},
		"forced": func(t *testing.T, n *tenant) {
			pod := n.pods("agent")[0].Name
			must(t, "-n", n.namespace, "scale", "deployment/agent", "--replicas=0")
			must(t, "-n", n.namespace, "delete", "pod", pod, "--force", "--grace-period=0", "--ignore-not-found")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for minutes
			n := newTenant(t, "lost-"+name)
			r := n.refusesFirst()
			n.endpoint("a", r.URL("/"), "  retry: {initialBackoffSeconds: 300}")
			n.waitsForRetry("a", r, func() { n.app("agent", 1, "", "-count=1") })
			remove(t, n)
			eventually(t, lossTime, n.reportedLost)
			t.Log("\n" + must(t, "-n", n.namespace, "get", "deliveryattempts"))
		})
	}
}

// reportedLost says that the endpoint counts its one delivery as lost, and that its record says so.
func (n *tenant) reportedLost() error {
	if d := n.get("a").Status.Deliveries; d == nil || d.Lost != 1 || d.Pending != 0 {
		return fmt.Errorf("counters are %+v, want one lost", d)
	}
	for _, a := range n.attempts() {
		if a.Status.Outcome == v1alpha1.DeliveryFailed && a.Status.Reason == v1alpha1.ReasonQueueLost {
			return nil
		}
	}
	return fmt.Errorf("no record has failed with QueueLost")
}

// Another version of the sidecar, and the one before again, over the same queue on a volume.
func TestTheSidecarIsUpgradedAndDowngradedOverItsQueue(t *testing.T) {
	n := newTenant(t, "versions")
	volume(t, "versions-queue", "versions", "queue")
	r := n.refusesFirst()
	n.endpoint("a", r.URL("/"), "  retry: {initialBackoffSeconds: 15}")
	claim := fmt.Sprintf("%s: queue", v1alpha1.AnnotationQueueClaim)
	n.waitsForRetry("a", r, func() { n.app("agent", 1, claim, "-count=1") })
	for _, version := range []string{"v0.0.2-test", "v0.0.1-test"} {
		must(t, "-n", operatorNamespace, "set", "env", "deployment/webhook-manager", "DISPATCHER_IMAGE=webhook-operator/dispatcher:"+version)
		must(t, "-n", operatorNamespace, "rollout", "status", "deployment/webhook-manager", "--timeout=90s")
		must(t, "-n", "versions", "scale", "deployment/agent", "--replicas=0")
		must(t, "-n", "versions", "wait", "--for=delete", "pod", "-l", "app=agent", "--timeout=60s")
		before := len(r.Requests())
		must(t, "-n", "versions", "scale", "deployment/agent", "--replicas=1")
		must(t, "-n", "versions", "rollout", "status", "deployment/agent", "--timeout=90s")
		if image := sidecarOf(t, &n.pods("agent")[0]).Image; !strings.HasSuffix(image, version) {
			t.Errorf("the sidecar's image is %s, want %s", image, version)
		}
		// The event of before, which waited on the volume, and the new pod's own.
		eventually(t, soon, func() error {
			if missing := n.accounts.missing(arrived(r.Requests())); len(missing) > 0 || len(r.Requests()) == before {
				return fmt.Errorf("%d events are missing", len(missing))
			}
			for id, times := range arrived(r.Requests()) {
				if times < 2 {
					return fmt.Errorf("event %s was not tried again", id)
				}
			}
			return nil
		})
	}
}

func sidecarOf(t *testing.T, pod *corev1.Pod) *corev1.Container {
	t.Helper()
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == v1alpha1.SidecarName {
			return c
		}
	}
	t.Fatalf("pod %s has no sidecar", pod.Name)
	return nil
}

// volume makes a volume in a folder of the node, and a claim of it.
func volume(t *testing.T, name, namespace, claim string) {
	t.Helper()
	apply(t, persistentVolume(t, name)+fmt.Sprintf(`
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %s, namespace: %s}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  volumeName: %s
  resources: {requests: {storage: 1Gi}}
`, claim, namespace, name))
}

func persistentVolume(t *testing.T, name string) string {
	t.Helper()
	folder := filepath.Join(os.Getenv("WEBHOOK_NODE_DIR"), "volumes", name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777); err != nil { // a hostPath takes no fsGroup
		t.Fatal(err)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: %s}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: %s}
`, name, folder)
}
