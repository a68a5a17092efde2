// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"errors"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// refusedPod is a valid pod with something merged into it.
func refusedPod(t *testing.T, mutation string) []byte {
	t.Helper()
	var change object
	if err := yaml.Unmarshal([]byte(mutation), &change); err != nil {
		t.Fatal(err)
	}
	pod, err := decode(readPod(t, "testdata/plain.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := encode(merge(pod, change))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func annotated(key, value string) string {
	return `metadata: {annotations: {webhooks.gary.club/` + key + `: "` + value + `"}}`
}

func TestRefusals(t *testing.T) {
	const sizeRule, nameRule = "must be a quantity from 128Mi to 16Ti", "must be the name of"
	for name, tc := range map[string]struct {
		mutation string
		field    string
		text     string
	}{
		"the node's network":            {`spec: {hostNetwork: true}`, "spec.hostNetwork", "or remove the label webhooks.gary.club/inject"},
		"the node's processes":          {`spec: {hostPID: true}`, "spec.hostPID", "process 1"},
		"shared processes":              {`spec: {shareProcessNamespace: true}`, "spec.shareProcessNamespace", "set it to false"},
		"Windows":                       {`spec: {os: {name: windows}}`, "spec.os.name", "Linux"},
		"a node of Windows":             {`spec: {nodeSelector: {kubernetes.io/os: windows}}`, "spec.nodeSelector[kubernetes.io/os]", "Linux"},
		"a static pod":                  {`metadata: {annotations: {kubernetes.io/config.mirror: x}}`, "metadata.annotations[kubernetes.io/config.mirror]", "DaemonSet"},
		"an app of our name":            {`spec: {containers: [{name: webhook-dispatcher}]}`, "spec.containers[0].name", "rename"},
		"our token in the app":          {`spec: {containers: [{name: a, volumeMounts: [{name: webhook-dispatcher-identity, mountPath: /x}]}]}`, "spec.containers[0].volumeMounts[0]", "remove the mount"},
		"our queue in a sidecar":        {`spec: {initContainers: [{name: a, volumeMounts: [{}, {name: webhook-dispatcher-queue, mountPath: /x}]}]}`, "spec.initContainers[0].volumeMounts[1]", "remove the mount"},
		"our queue as a device":         {`spec: {containers: [{name: a}, {name: b, volumeDevices: [{name: webhook-dispatcher-queue, devicePath: /x}]}]}`, "spec.containers[1].volumeDevices[0]", "remove the device"},
		"an ephemeral container":        {`spec: {ephemeralContainers: [{name: a, volumeMounts: [{name: webhook-dispatcher-no-token, mountPath: /x}]}]}`, "spec.ephemeralContainers[0].volumeMounts[0]", "remove the mount"},
		"the events' port":              {`spec: {containers: [{name: a, ports: [{containerPort: 8075}]}]}`, "spec.containers[0].ports[0].containerPort", "another port"},
		"the health port":               {`spec: {initContainers: [{name: a, ports: [{containerPort: 8076, protocol: TCP}]}]}`, "spec.initContainers[0].ports[0].containerPort", "another port"},
		"the name of our port":          {`spec: {containers: [{name: a, ports: [{containerPort: 1, name: webhook-health}]}]}`, "spec.containers[0].ports[0].name", "rename"},
		"the app has the claim":         {`{metadata: {annotations: {webhooks.gary.club/queue-claim: c}}, spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}}`, "spec.volumes[0]", "another claim"},
		"no quantity":                   {annotated("queue-size", "much"), "metadata.annotations[webhooks.gary.club/queue-size]", sizeRule},
		"an empty quantity":             {annotated("queue-size", ""), "metadata.annotations[webhooks.gary.club/queue-size]", sizeRule},
		"a small queue":                 {annotated("queue-size", "63Mi"), "metadata.annotations[webhooks.gary.club/queue-size]", sizeRule},
		"a negative queue":              {annotated("queue-size", "-1Gi"), "metadata.annotations[webhooks.gary.club/queue-size]", sizeRule},
		"a huge queue":                  {annotated("queue-size", "1e400"), "metadata.annotations[webhooks.gary.club/queue-size]", sizeRule},
		"a queue of many digits":        {annotated("queue-size", strings.Repeat("9", 1000)), "metadata.annotations[webhooks.gary.club/queue-size]", sizeRule},
		"a claim that is no name":       {annotated("queue-claim", "My Claim"), "metadata.annotations[webhooks.gary.club/queue-claim]", nameRule + " a PersistentVolumeClaim"},
		"an empty claim":                {annotated("queue-claim", ""), "metadata.annotations[webhooks.gary.club/queue-claim]", nameRule},
		"a class that is no name":       {annotated("queue-storage-class", "a/b"), "metadata.annotations[webhooks.gary.club/queue-storage-class]", nameRule + " a StorageClass"},
		"a claim and a class":           {`metadata: {annotations: {webhooks.gary.club/queue-claim: a, webhooks.gary.club/queue-storage-class: b}}`, "metadata.annotations[webhooks.gary.club/queue-storage-class]", "one of the two"},
		"a grace period with a unit":    {annotated("termination-grace-period-seconds", "60s"), "metadata.annotations[webhooks.gary.club/termination-grace-period-seconds]", "1 to 86400"},
		"no grace period":               {annotated("termination-grace-period-seconds", "0"), "metadata.annotations[webhooks.gary.club/termination-grace-period-seconds]", "1 to 86400"},
		"a grace period of a year":      {annotated("termination-grace-period-seconds", "31536000"), "metadata.annotations[webhooks.gary.club/termination-grace-period-seconds]", "1 to 86400"},
		"no CPU":                        {annotated("cpu-request", "0"), "metadata.annotations[webhooks.gary.club/cpu-request]", "from 1m to 64"},
		"little memory":                 {annotated("memory-request", "1Mi"), "metadata.annotations[webhooks.gary.club/memory-request]", "from 32Mi to 64Gi"},
		"memory in thousandths":         {annotated("memory-limit", "512m"), "metadata.annotations[webhooks.gary.club/memory-limit]", "from 32Mi to 64Gi"},
		"more requested than the limit": {`metadata: {annotations: {webhooks.gary.club/memory-request: 1Gi, webhooks.gary.club/memory-limit: 512Mi}}`, "metadata.annotations[webhooks.gary.club/memory-limit]", "must not be below"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Mutate(refusedPod(t, tc.mutation), "team-a", settings())
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("error is %v, result %s", err, got)
			}
			if len(refusal.Problems) != 1 || refusal.Problems[0].Field != tc.field || !strings.Contains(refusal.Problems[0].Text, tc.text) {
				t.Errorf("problems are %+v", refusal.Problems)
			}
			if !strings.Contains(err.Error(), tc.field+": ") {
				t.Errorf("the message does not name the field: %v", err)
			}
		})
	}
}

func TestAllProblemsAreNamedAtOnce(t *testing.T) {
	_, err := Mutate(refusedPod(t, `{metadata: {annotations: {webhooks.gary.club/queue-size: x, webhooks.gary.club/cpu-request: x}}, spec: {hostNetwork: true}}`), "team-a", settings())
	var refusal *Refusal
	if !errors.As(err, &refusal) || len(refusal.Problems) != 3 {
		t.Errorf("error is %v", err)
	}
}

func TestNotRefused(t *testing.T) {
	for name, mutation := range map[string]string{
		"our port, but of UDP":           `spec: {containers: [{name: a, ports: [{containerPort: 8075, protocol: UDP}]}]}`,
		"processes that are not shared":  `spec: {shareProcessNamespace: false}`,
		"another claim":                  `{metadata: {annotations: {webhooks.gary.club/queue-claim: c}}, spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: d}}]}}`,
		"a low limit of memory alone":    annotated("memory-limit", "48Mi"),
		"a high request of memory alone": annotated("memory-request", "1Gi"),
		"the smallest queue":             annotated("queue-size", "128Mi"),
		"the largest queue":              annotated("queue-size", "16Ti"),
		"a queue with a fraction":        annotated("queue-size", "1.5Gi"),
	} {
		if _, err := Mutate(refusedPod(t, mutation), "team-a", settings()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyNamespacesThatAreServed(t *testing.T) {
	s := settings()
	s.Serves = func(namespace string) bool { return namespace == "team-a" }
	raw := readPod(t, "testdata/plain.yaml")
	if _, err := Mutate(raw, "team-a", s); err != nil {
		t.Error(err)
	}
	_, err := Mutate(raw, "team-b", s)
	var refusal *Refusal
	if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "--namespaces") {
		t.Errorf("error is %v", err)
	}
}
