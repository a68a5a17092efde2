// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// The names and places that the dispatcher's flags have as defaults.
const (
	queueVolume    = v1alpha1.SidecarName + "-queue"
	identityVolume = v1alpha1.SidecarName + "-identity"
	noTokenVolume  = v1alpha1.SidecarName + "-no-token"

	queuePath    = "/var/lib/webhooks"
	identityPath = "/var/run/webhooks"
	// apiTokenPath is where admission mounts the app's API token, into containers that mount nothing there.
	apiTokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"

	eventsPort, healthPort = 8075, 8076
	healthPortName         = "webhook-health"
	// EventsURL is where the app's containers post events.
	EventsURL = "http://127.0.0.1:8075/v1/events"

	user                   = 65532 // the image's
	tokenExpirationSeconds = 3600
	logBytes               = 64 << 20 // what kubelets keep of a container's logs by default, and some
)

func ours(volume string) bool {
	return volume == queueVolume || volume == identityVolume || volume == noTokenVolume
}

func (p *plan) sidecar() corev1.Container {
	return corev1.Container{
		Name:            v1alpha1.SidecarName,
		Image:           p.settings.Image,
		ImagePullPolicy: p.settings.PullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Args:            p.args(),
		Env: []corev1.EnvVar{{Name: "POD_NAMESPACE", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}},
		Ports:     []corev1.ContainerPort{{Name: healthPortName, ContainerPort: healthPort, Protocol: corev1.ProtocolTCP}},
		Resources: p.resources(),
		VolumeMounts: []corev1.VolumeMount{
			{Name: queueVolume, MountPath: queuePath},
			{Name: identityVolume, MountPath: identityPath, ReadOnly: true},
			{Name: noTokenVolume, MountPath: apiTokenPath, ReadOnly: true},
		},
		// The app is started once this has succeeded. Two minutes are for the opening of a large queue.
		StartupProbe:  probe(1, 2, 120),
		LivenessProbe: probe(10, 5, 3),
		// There is no readiness probe. A sidecar's readiness is the pod's, and a queue is full because of receivers: it
		// would be so in all pods at about the same time, and the app would be out of service for that.
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"/dispatcher", "drain"}}}},
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot:             new(true),
			RunAsUser:                new(int64(user)),
			RunAsGroup:               new(int64(user)),
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

func probe(period, timeout, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(healthPort),
			Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: period, TimeoutSeconds: timeout, SuccessThreshold: 1, FailureThreshold: failures,
	}
}

func (p *plan) resources() corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: p.cpu, corev1.ResourceMemory: p.memory},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: p.memoryLimit},
	}
	if p.shared {
		r.Limits[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(p.size.Value()+logBytes, resource.BinarySI)
	}
	return r
}

func (p *plan) volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: queueVolume, VolumeSource: p.queueSource()},
		{Name: identityVolume, VolumeSource: identitySource()},
		{Name: noTokenVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("1Mi"))}}},
	}
}

func (p *plan) queueSource() corev1.VolumeSource {
	switch {
	case p.claim != "":
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: p.claim}}
	case p.class != "":
		return corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				StorageClassName: &p.class,
				VolumeMode:       new(corev1.PersistentVolumeFilesystem),
				Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: p.size}},
			}}}}
	}
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &p.size}}
}

// identitySource holds what leads to the manager: a token that is good for nothing else, and the CA, which is optional
// so that a pod starts before its namespace has an endpoint.
func identitySource() corev1.VolumeSource {
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(0o644)),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: v1alpha1.TokenAudience,
				ExpirationSeconds: new(int64(tokenExpirationSeconds)), Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: v1alpha1.ConfigMapCA},
				Items:                []corev1.KeyToPath{{Key: v1alpha1.KeyCA, Path: v1alpha1.KeyCA}},
				Optional:             new(true)}},
		},
	}}
}
