// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// EventType names what an endpoint subscribes to.
// +kubebuilder:validation:MaxLength=71
// +kubebuilder:validation:XValidation:rule="self in ['call.completed', 'booking.created', 'contact.created'] || self.matches('^custom[.][a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$')",message="unknown event type: use call.completed, booking.created, contact.created, or a type of your own as custom.<name> in lower case"
type EventType string

// SecretKeyReference names one entry of a Secret in the endpoint's namespace. The Secret must carry the label
// webhooks.gary.club/credentials: "true".
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// key of the entry in the Secret's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// SecretReference names a Secret in the endpoint's namespace. The Secret must carry the label
// webhooks.gary.club/credentials: "true".
type SecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// URLSource reads the URL from elsewhere.
type URLSource struct {
	// secretKeyRef names the Secret entry that holds the URL. White space around it is ignored; the rules of spec.url
	// hold, and Accepted=False/InvalidURL says when they are broken.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef"`
}

// RetrySpec is the schedule of a delivery's attempts.
// +kubebuilder:validation:XValidation:rule="self.initialBackoffSeconds <= self.maxBackoffSeconds",message="initialBackoffSeconds must not be more than maxBackoffSeconds: lower the one or raise the other"
type RetrySpec struct {
	// maxRetries is how many requests may follow the first; 3 by default, so that there are at most 4 requests. 0 to 10.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	MaxRetries int32 `json:"maxRetries"`
	// initialBackoffSeconds is the wait before the first retry; each later one is twice as long, with 20 % of jitter. A
	// longer Retry-After of the receiver is honoured, up to an hour. 5 by default, 1 to 3600.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	InitialBackoffSeconds int32 `json:"initialBackoffSeconds,omitempty"`
	// maxBackoffSeconds caps the wait. 300 by default, 1 to 86400.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	MaxBackoffSeconds int32 `json:"maxBackoffSeconds,omitempty"`
	// deadlineSeconds is when a delivery fails at the latest, counted from the acceptance of its event, whatever it waits
	// for. 86400 (a day) by default, 10 to 604800.
	// +optional
	// +kubebuilder:default=86400
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=604800
	DeadlineSeconds int32 `json:"deadlineSeconds,omitempty"`
}

// DeletionPolicy says what becomes of a generated signing key.
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

// The deletion policies.
const (
	DeletionPolicyRetain DeletionPolicy = "Retain"
	DeletionPolicyDelete DeletionPolicy = "Delete"
)

// SigningSpec says which key signs.
type SigningSpec struct {
	// secretRef names a Secret with the signing key under signing-key: whsec_ and the base64 of 24 to 64 random bytes.
	// During a rotation the key before stands under previous-signing-key, and each request carries both signatures.
	// Absent: the manager makes a key in the Secret that status.signing.secretName names. SigningKeyReady says what is
	// wrong; deliveries wait until it is mended.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
	// deletionPolicy says whether a generated key goes with the endpoint (Delete) or outlives it (Retain, the default), so
	// that receivers need not change when a GitOps tool deletes the endpoint and creates it again.
	// +optional
	// +kubebuilder:default=Retain
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// HeaderValueSource reads a header's value from elsewhere.
type HeaderValueSource struct {
	// secretKeyRef names the Secret entry that holds the value.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef"`
}

// Header is one request header of the user's.
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.valueFrom)",message="a header has either value or valueFrom: keep one of them"
type Header struct {
	// name of the header. Headers that the delivery itself sets cannot be named: webhook-*, host, content-*, user-agent,
	// connection, proxy-* and the like.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9!#$%&\\'*+.^_`|~-]+$')",message="a header name has letters, digits and hyphens only (an RFC 9110 token), for example X-Client"
	// +kubebuilder:validation:XValidation:rule="!self.lowerAscii().matches('^(webhook-.*|proxy-.*|content-.*|host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|user-agent|accept-encoding|traceparent|tracestate)$')",message="this header is set by the delivery itself and reserved: use a name of your own, for example X-Client"
	Name string `json:"name"`
	// value in clear text; for a secret use valueFrom. At most 2048 visible characters.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.matches('^[\\\\x20-\\\\x7e\\\\t]*$')",message="a header value has visible ASCII characters and spaces only, no line breaks: remove the others or encode them"
	Value *string `json:"value,omitempty"`
	// valueFrom reads the value from a Secret that carries the credentials label.
	// +optional
	ValueFrom *HeaderValueSource `json:"valueFrom,omitempty"`
}

// CASecretReference names the Secret entry with a CA bundle.
type CASecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// key of the entry, in PEM form; ca.crt by default.
	// +optional
	// +kubebuilder:default=ca.crt
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// TLSSpec is what the connection needs beyond the usual. There is no switch that turns verification off.
type TLSSpec struct {
	// caSecretRef names the CA that signed the receiver's certificate, instead of the well-known ones.
	// +optional
	CASecretRef *CASecretReference `json:"caSecretRef,omitempty"`
	// clientCertificateSecretRef names a Secret of type kubernetes.io/tls whose certificate is shown to the receiver.
	// +optional
	ClientCertificateSecretRef *SecretReference `json:"clientCertificateSecretRef,omitempty"`
	// serverName is the name that the receiver's certificate must carry, when it is not the host of the URL.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="serverName is a host name in lower case, without port, for example hooks.example.com"
	ServerName string `json:"serverName,omitempty"`
}

// TestPolicy says when test events are sent.
// +kubebuilder:validation:Enum=OnChange;OnRequest
type TestPolicy string

// The test policies.
const (
	TestOnChange  TestPolicy = "OnChange"
	TestOnRequest TestPolicy = "OnRequest"
)

// TestSpec says when a test event is sent, and which.
type TestSpec struct {
	// when is OnChange (the default: at creation and whenever the place where deliveries go changes) or OnRequest (only by
	// the annotation webhooks.gary.club/requested-test: TYPE or TYPE/TOKEN). Receivers see a test event as a real one with
	// the header webhook-test: true and a call id that begins with call_test_.
	// +optional
	// +kubebuilder:default=OnChange
	When TestPolicy `json:"when,omitempty"`
	// event is the type of the test event on change; by default the first of spec.events.
	// +optional
	Event EventType `json:"event,omitempty"`
}

// HistorySpec says how many finished DeliveryAttempts are kept.
type HistorySpec struct {
	// succeeded is how many delivered ones are kept; 10 by default, 0 to 100.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Succeeded int32 `json:"succeeded"`
	// failed is how many failed ones are kept; 50 by default, 0 to 500.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=500
	Failed int32 `json:"failed"`
	// ttlSecondsAfterFinished is how long a finished one is kept at the most; 604800 (a week) by default, 60 to 7776000.
	// +optional
	// +kubebuilder:default=604800
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=7776000
	TTLSecondsAfterFinished int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// SuccessCode is a status code that counts as success.
// +kubebuilder:validation:MaxLength=3
// +kubebuilder:validation:XValidation:rule="self.matches('^(2[0-9][0-9]|2xx)$')",message="a success code is \"200\" to \"299\", or \"2xx\" for all of them"
type SuccessCode string

// WebhookEndpointSpec says which events go where.
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.urlFrom)",message="set either url or urlFrom: keep one of them"
// +kubebuilder:validation:XValidation:rule="self.retry.deadlineSeconds >= self.timeoutSeconds + self.retry.maxRetries * self.retry.initialBackoffSeconds",message="retry.deadlineSeconds leaves no room for the retries: it must be at least timeoutSeconds + maxRetries * initialBackoffSeconds"
type WebhookEndpointSpec struct {
	// displayName is for people. Example: "Zapier — New Call to Google Sheets". At most 128 characters.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	DisplayName string `json:"displayName,omitempty"`
	// url is where events are posted: an https URL without user name and fragment, at most 2048 characters. Whoever may
	// read this object can read it; many webhook URLs are secrets, for which there is urlFrom. Its address must be public,
	// unless the operator allows it: see Accepted, reason AddressRefused. Example: https://hooks.example.com/catch/1.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.startsWith('https://')",message="url must begin with https://, since call data is never sent unencrypted"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-z]+://[^/?#]*@')",message="url must not contain user information: send credentials as a header with valueFrom"
	// +kubebuilder:validation:XValidation:rule="!self.contains('#')",message="url must not contain a fragment: remove the # and what follows"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^\\\\x00-\\\\x20\\\\x7f]+$') && isURL(self) && url(self).getHostname() != ''",message="url must be an absolute URL with a host and without spaces, for example https://hooks.example.com/catch/1"
	URL string `json:"url,omitempty"`
	// urlFrom reads the URL from a Secret, for URLs that are secrets themselves.
	// +optional
	URLFrom *URLSource `json:"urlFrom,omitempty"`
	// events are the types that fire this endpoint: call.completed, booking.created, contact.created, or custom.<name>.
	// 1 to 32 of them. The "webhook never fires" of the troubleshooting page is most often a missing one here.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Events []EventType `json:"events"`
	// agents restricts the endpoint to calls of these agent ids; empty means all. At most 100.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Agents []string `json:"agents,omitempty"`
	// suspend holds deliveries back until it is false again: they wait, within the endpoint's share of the queue and
	// their deadline. Ready=False/Suspended shows it.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// timeoutSeconds is how long one request may take, from connecting to the last byte of the answer. 10 by default, 1
	// to 30.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=30
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// successCodes are the status codes that count as success: "200" by default; "202", or "2xx" for all from 200 to 299.
	// +optional
	// +listType=set
	// +kubebuilder:default={"200"}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	SuccessCodes []SuccessCode `json:"successCodes,omitempty"`
	// retry is the schedule of the attempts: by default up to 3 retries after about 5, 10 and 20 seconds.
	// +optional
	// +kubebuilder:default={}
	Retry RetrySpec `json:"retry,omitempty"`
	// signing says which key signs the requests, after Standard Webhooks 1.0.
	// +optional
	// +kubebuilder:default={}
	Signing SigningSpec `json:"signing,omitempty"`
	// headers are added to each request. At most 20, no name twice.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))",message="a header is named twice: names are compared without regard to case"
	Headers []Header `json:"headers,omitempty"`
	// tls is what the connection needs beyond the usual.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
	// maxInFlight bounds the requests to this endpoint under way at once, of one dispatcher. 16 by default, 1 to 256.
	// +optional
	// +kubebuilder:default=16
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	MaxInFlight int32 `json:"maxInFlight,omitempty"`
	// test says when a test event is sent, and which.
	// +optional
	// +kubebuilder:default={}
	Test TestSpec `json:"test,omitempty"`
	// history says how many finished DeliveryAttempts are kept.
	// +optional
	// +kubebuilder:default={}
	History HistorySpec `json:"history,omitempty"`
}

// SigningStatus says where the signing key is.
type SigningStatus struct {
	// secretName is the Secret that holds the key; receivers need its entry signing-key.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
	// keys is 1, or 2 during a rotation.
	// +optional
	Keys int32 `json:"keys,omitempty"`
}

// CertificateStatus is what the receiver's certificate says.
type CertificateStatus struct {
	// issuer is the common name of who signed it.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Issuer string `json:"issuer,omitempty"`
	// notAfterTime is when it expires.
	// +optional
	NotAfterTime *metav1.Time `json:"notAfterTime,omitempty"`
}

// TestStatus is the latest test event.
type TestStatus struct {
	// requested is the value of the annotation webhooks.gary.club/requested-test that was handled last.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Requested string `json:"requested,omitempty"`
	// time is when the answer came, or its absence was certain.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
	// event is the type that was sent.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	Event string `json:"event,omitempty"`
	// outcome is what it came to.
	// +optional
	Outcome AttemptOutcome `json:"outcome,omitempty"`
	// statusCode is the answer's HTTP status code; 0 when there was none.
	// +optional
	StatusCode int32 `json:"statusCode,omitempty"`
	// durationMilliseconds is how long the request took.
	// +optional
	DurationMilliseconds int64 `json:"durationMilliseconds,omitempty"`
	// message says in words what happened.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
	// hash stands for where the test went, so that the same place is not tested again; it tells nothing else.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Hash string `json:"hash,omitempty"`
}

// DeliveriesStatus counts deliveries. The figures come from the dispatchers' own counters; they never go backwards (but
// for pending), and are exact once all dispatchers have reported.
type DeliveriesStatus struct {
	// succeeded is how many were delivered.
	// +optional
	Succeeded int64 `json:"succeeded"`
	// failed is how many failed for good.
	// +optional
	Failed int64 `json:"failed"`
	// pending is how many wait or are retried.
	// +optional
	Pending int64 `json:"pending"`
	// lost is how many were waiting in a queue whose disk is gone.
	// +optional
	Lost int64 `json:"lost"`
	// unrecorded is how many of the finished ones never had a DeliveryAttempt, because of the write budget.
	// +optional
	Unrecorded int64 `json:"unrecorded"`
	// lastSuccessTime is when a delivery last succeeded.
	// +optional
	LastSuccessTime *metav1.Time `json:"lastSuccessTime,omitempty"`
	// lastFailureTime is when a delivery last failed for good.
	// +optional
	LastFailureTime *metav1.Time `json:"lastFailureTime,omitempty"`
}

// DispatchersStatus counts the namespace's dispatchers.
type DispatchersStatus struct {
	// connected is how many are connected to the manager.
	// +optional
	Connected int32 `json:"connected"`
	// upToDate is how many of them deliver by the current state of this endpoint.
	// +optional
	UpToDate int32 `json:"upToDate"`
}

// WebhookEndpointStatus says how the endpoint does.
type WebhookEndpointStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Ready, Accepted, SigningKeyReady, TestDelivered and Delivering, and Reconciling or Stalled while true.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// host is the host of the URL; path and query are not shown.
	// +optional
	// +kubebuilder:validation:MaxLength=262
	Host string `json:"host,omitempty"`
	// signing says where the signing key is.
	// +optional
	Signing *SigningStatus `json:"signing,omitempty"`
	// certificate is what the receiver's certificate says.
	// +optional
	Certificate *CertificateStatus `json:"certificate,omitempty"`
	// test is the latest test event.
	// +optional
	Test *TestStatus `json:"test,omitempty"`
	// deliveries counts what went to this endpoint.
	// +optional
	Deliveries *DeliveriesStatus `json:"deliveries,omitempty"`
	// dispatchers counts the namespace's dispatchers.
	// +optional
	Dispatchers *DispatchersStatus `json:"dispatchers,omitempty"`
}

// WebhookEndpoint is a URL that call events are delivered to.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=whe,categories=webhooks
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.status.host`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Delivered",type=integer,JSONPath=`.status.deliveries.succeeded`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.deliveries.failed`
// +kubebuilder:printcolumn:name="Last-Delivery",type=date,JSONPath=`.status.deliveries.lastSuccessTime`
// +kubebuilder:printcolumn:name="Pending",type=integer,priority=1,JSONPath=`.status.deliveries.pending`
// +kubebuilder:printcolumn:name="Unrecorded",type=integer,priority=1,JSONPath=`.status.deliveries.unrecorded`
// +kubebuilder:printcolumn:name="Dispatchers",type=integer,priority=1,JSONPath=`.status.dispatchers.upToDate`
// +kubebuilder:printcolumn:name="Events",type=string,priority=1,JSONPath=`.spec.events`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type WebhookEndpoint struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec says which events go where.
	// +required
	Spec WebhookEndpointSpec `json:"spec"`
	// status says how the endpoint does.
	// +optional
	Status WebhookEndpointStatus `json:"status,omitempty"`
}

// WebhookEndpointList is a list of endpoints.
// +kubebuilder:object:root=true
type WebhookEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []WebhookEndpoint `json:"items"`
}
