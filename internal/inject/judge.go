// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

const removeLabel = "or remove the label " + v1alpha1.LabelInject

// judge says what the pod shall get, or all that stands against it.
func judge(pod *corev1.Pod, namespace string, s Settings) (*plan, error) {
	refusal := &Refusal{}
	if s.Serves != nil && !s.Serves(namespace) {
		// A dispatcher there would never be told an endpoint, and would keep all events.
		refusal.add("metadata.namespace", "the webhook manager does not serve this namespace, by its flag --namespaces: use another one, %s", removeLabel)
	}
	p := &plan{settings: s, again: s.Version != "" && pod.Annotations[v1alpha1.AnnotationInjected] == s.Version}
	annotations{pod.Annotations, refusal}.read(pod, p)
	if !p.ownVolume() {
		p.claim = claimOf(pod)
	}
	judgePod(pod, refusal)
	for _, c := range containersOf(pod) {
		judgeContainer(c, refusal)
	}
	judgeClaim(pod, p.claim, refusal)
	if len(refusal.Problems) > 0 {
		return nil, refusal
	}
	p.shared = !p.ownVolume() && limitsStorage(pod)
	return p, nil
}

// judgePod refuses what makes other processes part of our container's world, and pods that cannot have a sidecar.
func judgePod(pod *corev1.Pod, refusal *Refusal) {
	spec := &pod.Spec
	if spec.HostNetwork {
		refusal.add("spec.hostNetwork", "the dispatcher's loopback would be the node's, open to every process there: set it to false, %s", removeLabel)
	}
	if spec.HostPID {
		refusal.add("spec.hostPID", "the dispatcher's files would be readable through /proc, and it would not be process 1: set it to false, %s", removeLabel)
	}
	if spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace {
		refusal.add("spec.shareProcessNamespace", "the dispatcher's files, signing keys among them, would be readable through /proc: set it to false, %s", removeLabel)
	}
	if spec.OS != nil && spec.OS.Name == corev1.Windows {
		refusal.add("spec.os.name", "the dispatcher runs on Linux: set it to linux, %s", removeLabel)
	}
	if spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows) {
		refusal.add("spec.nodeSelector["+corev1.LabelOSStable+"]", "the dispatcher runs on Linux: set it to linux, %s", removeLabel)
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		refusal.add(annotationField(corev1.MirrorPodAnnotationKey), "a static pod runs already when the API server sees it: use a DaemonSet, %s", removeLabel)
	}
}

// kept is a container that is not ours.
type kept struct {
	corev1.Container
	field string
}

// containersOf are all containers but the one that is injected.
func containersOf(pod *corev1.Pod) []kept {
	var all []kept
	for i, c := range pod.Spec.InitContainers {
		if c.Name != v1alpha1.SidecarName {
			all = append(all, kept{c, fmt.Sprintf("spec.initContainers[%d]", i)})
		}
	}
	for i, c := range pod.Spec.Containers {
		all = append(all, kept{c, fmt.Sprintf("spec.containers[%d]", i)})
	}
	for i, c := range pod.Spec.EphemeralContainers {
		all = append(all, kept{corev1.Container(c.EphemeralContainerCommon), fmt.Sprintf("spec.ephemeralContainers[%d]", i)})
	}
	return all
}

func judgeContainer(c kept, refusal *Refusal) {
	if c.Name == v1alpha1.SidecarName {
		refusal.add(c.field+".name", "is the name of the container that is injected: remove the container, or rename it")
	}
	for i, m := range c.VolumeMounts {
		if ours(m.Name) {
			refusal.add(fmt.Sprintf("%s.volumeMounts[%d]", c.field, i), "the volume is the dispatcher's alone: remove the mount")
		}
	}
	for i, d := range c.VolumeDevices {
		if ours(d.Name) {
			refusal.add(fmt.Sprintf("%s.volumeDevices[%d]", c.field, i), "the volume is the dispatcher's alone: remove the device")
		}
	}
	for i, p := range c.Ports {
		field := fmt.Sprintf("%s.ports[%d]", c.field, i)
		// All containers share the pod's ports: one of the two listeners would fail.
		if (p.ContainerPort == eventsPort || p.ContainerPort == healthPort) && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
			refusal.add(field+".containerPort", "the dispatcher listens on %d and %d: let the app listen on another port", eventsPort, healthPort)
		}
		if p.Name == healthPortName {
			refusal.add(field+".name", "is the name of the dispatcher's port, and a Service or a PodMonitor would find the wrong one: rename it")
		}
	}
}

// claimOf is the claim of a volume that has the name of ours. A StatefulSet whose volumeClaimTemplate has that name puts
// one into each pod, where an annotation could only name the same claim for all of them.
func claimOf(pod *corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		if v.Name == queueVolume && v.PersistentVolumeClaim != nil {
			return v.PersistentVolumeClaim.ClaimName
		}
	}
	return ""
}

// judgeClaim refuses a second volume of the queue's claim: what is on it would be the app's to read.
func judgeClaim(pod *corev1.Pod, claim string, refusal *Refusal) {
	for i, v := range pod.Spec.Volumes {
		if claim != "" && !ours(v.Name) && v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim {
			refusal.add(fmt.Sprintf("spec.volumes[%d]", i), "the claim holds the queue, which is the dispatcher's alone: remove the volume, or name another claim in %s", v1alpha1.AnnotationQueueClaim)
		}
	}
}

// limitsStorage says whether any other container limits its ephemeral storage. Then the kubelet evicts the pod when its
// emptyDirs, ours among them, take more than the sum of all limits.
func limitsStorage(pod *corev1.Pod) bool {
	for _, c := range containersOf(pod) {
		if _, limited := c.Resources.Limits[corev1.ResourceEphemeralStorage]; limited {
			return true
		}
	}
	return false
}
