// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

const (
	// AnnotationRequestedTest asks for a test event: "TYPE" or "TYPE/TOKEN", where the token makes a request distinct
	// from the one before, for example a timestamp. The value that was handled last stands in status.test.requested.
	AnnotationRequestedTest = "webhooks.gary.club/requested-test"
	// MaxRequestedTestToken bounds the token of AnnotationRequestedTest, in characters.
	MaxRequestedTestToken = 64

	// LabelCredentials marks, with the value "true", a Secret that endpoints of its namespace may refer to. Without it,
	// whoever may create endpoints but not read Secrets could have any Secret sent to a URL of theirs.
	LabelCredentials = "webhooks.gary.club/credentials"

	// LabelEndpoint is on each DeliveryAttempt: the UID of its endpoint. A name would not do, since it may be longer
	// than a label's 63 characters. What stands in the spec is selected by fields instead.
	LabelEndpoint = "webhooks.gary.club/endpoint-uid"

	// ConfigMapCA is the ConfigMap, in each namespace with endpoints, that holds the manager's CA under KeyCA.
	ConfigMapCA = "webhooks-ca"
	// KeyCA is the entry of a CA bundle in PEM form.
	KeyCA = "ca.crt"

	// KeySigningKey is the entry of a signing Secret that holds the key: whsec_ and base64.
	KeySigningKey = "signing-key"
	// KeyPreviousSigningKey is the entry of the key before, during a rotation.
	KeyPreviousSigningKey = "previous-signing-key"

	// TokenAudience is the audience of the tokens that dispatchers show to the manager.
	TokenAudience = "webhooks.gary.club"
	// EventsAudience is the audience of the tokens that producers show to the gateway. It is another one: whoever posts
	// events is not thereby a dispatcher, which is told the signing keys.
	EventsAudience = "webhooks.gary.club/events"
	// ResourceEvents is the resource, in this API group, that a producer needs the verb create for in the namespace that
	// it posts for. There are no objects of it.
	ResourceEvents = "webhookevents"
)

// What is read from pods, and written to them, at injection.
const (
	// LabelInject, with the value "true" on a pod, has the dispatcher injected as a sidecar when the pod is created.
	LabelInject = "webhooks.gary.club/inject"
	// SidecarName is the name of the injected container.
	SidecarName = "webhook-dispatcher"
	// EventsURLVariable is the environment variable of the app's containers that says where to post events.
	EventsURLVariable = "WEBHOOK_EVENTS_URL"

	// AnnotationInjected is written by the injection: the version of the dispatcher that was injected.
	AnnotationInjected = "webhooks.gary.club/injected"
	// AnnotationQueueSize is the size of the queue's volume, as a quantity: "1Gi" by default, at least 128Mi. The queue
	// itself takes 60 % of it, since a kubelet evicts a pod whose volume is over its limit.
	AnnotationQueueSize = "webhooks.gary.club/queue-size"
	// AnnotationQueueClaim names a PersistentVolumeClaim of the namespace that holds the queue instead of an emptyDir. It
	// outlives the pod, and belongs to one pod at a time.
	AnnotationQueueClaim = "webhooks.gary.club/queue-claim"
	// AnnotationQueueStorageClass asks for a generic ephemeral volume of that storage class instead of an emptyDir: it
	// leaves the node's own disk alone, and ends with the pod.
	AnnotationQueueStorageClass = "webhooks.gary.club/queue-storage-class"
	// AnnotationGracePeriod raises the pod's terminationGracePeriodSeconds to this many seconds, when it is lower.
	AnnotationGracePeriod = "webhooks.gary.club/termination-grace-period-seconds"
	// AnnotationCPURequest, AnnotationMemoryRequest and AnnotationMemoryLimit are the sidecar's resources, as quantities.
	AnnotationCPURequest    = "webhooks.gary.club/cpu-request"
	AnnotationMemoryRequest = "webhooks.gary.club/memory-request"
	AnnotationMemoryLimit   = "webhooks.gary.club/memory-limit"
)

// There is no finalizer: a generated signing key with deletionPolicy Delete has the endpoint as its owner, and so has
// each DeliveryAttempt, so the garbage collector does what a finalizer would.
