// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RetrySpec is the schedule of a delivery's attempts. Its rules stand at WebhookEndpointSpec, since the API server tries
// the rules of a struct on its default, {}, before it fills in the defaults of the fields.
type RetrySpec struct {
	// maxRetries is how many requests may follow the first. Default 3, so that there are at most 4 requests. 0 to 10; 0
	// means one request and no retry. A delivery whose last retry failed is Failed, with the last attempt's outcome as
	// its reason. Example: 5.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	MaxRetries int32 `json:"maxRetries"`
	// initialBackoffSeconds is the wait before the first retry; each later one is twice as long, up to maxBackoffSeconds,
	// with 20 % of jitter. A longer Retry-After of the receiver is honoured, up to an hour. Default 5. 1 to 3600, and not
	// more than maxBackoffSeconds. Example: 30.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	InitialBackoffSeconds int32 `json:"initialBackoffSeconds,omitempty"`
	// maxBackoffSeconds caps the wait between two attempts, before jitter. Default 300. 1 to 86400. Example: 3600.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	MaxBackoffSeconds int32 `json:"maxBackoffSeconds,omitempty"`
	// deadlineSeconds is when a delivery fails at the latest, counted from the acceptance of its event, whatever it waits
	// for: a retry, the end of a suspension, a missing key. Such a delivery is Failed/DeadlineExceeded. Default 86400 (a
	// day). 10 to 604800 (a week), and at least timeoutSeconds + maxRetries * initialBackoffSeconds. Example: 172800.
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
	// Absent by default: the manager makes a key, in the Secret that status.signing.secretName names. While
	// SigningKeyReady=False (SecretNotFound, SecretNotLabelled, SecretKeyNotFound, InvalidSigningKey) deliveries wait.
	// Example: {name: zapier-signing}.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
	// deletionPolicy says whether a key that the manager made outlives the endpoint (Retain) or goes with it (Delete).
	// Default Retain, so that receivers need not change when a GitOps tool deletes the endpoint and creates it again. A
	// Secret of secretRef is never deleted. Example: Delete.
	// +optional
	// +kubebuilder:default=Retain
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Header is one request header of the user's.
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.valueFrom)",message="a header has either value or valueFrom: set one of them and remove the other"
type Header struct {
	// name of the header, at most 64 characters; its case does not matter. Headers that the delivery itself sets are
	// reserved: webhook-*, content-*, proxy-*, host, user-agent, connection, keep-alive, te, trailer, transfer-encoding,
	// upgrade, expect, accept-encoding, traceparent, tracestate. So are idempotency-key and x-idempotency-key, whose value
	// would be the same for all events: receivers deduplicate by webhook-id. Example: X-Client.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9!#$%&\\'*+.^_`|~-]+$')",message="a header name has letters, digits and hyphens only (an RFC 9110 token), for example X-Client"
	// +kubebuilder:validation:XValidation:rule="!self.lowerAscii().matches('^(webhook-.*|proxy-.*|content-.*|host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|user-agent|accept-encoding|traceparent|tracestate)$')",message="this header is set by the delivery itself and reserved: use a name of your own, for example X-Client"
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['idempotency-key', 'x-idempotency-key'])",message="this header is reserved, since one value for all events would make them one: remove it and let the receiver deduplicate by webhook-id, which each request carries"
	Name string `json:"name"`
	// value in clear text, at most 2048 visible ASCII characters; whoever may read this object can read it. For a secret
	// use valueFrom instead. Example: acme.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.matches('^[\\\\x20-\\\\x7e\\\\t]*$')",message="a header value has visible ASCII characters and spaces only, no line breaks: remove the others or encode them"
	Value *string `json:"value,omitempty"`
	// valueFrom reads the value from a Secret that carries the label webhooks.gary.club/credentials: "true". Accepted=False
	// (SecretNotFound, SecretNotLabelled, SecretKeyNotFound, InvalidHeader) says what is wrong; deliveries wait meanwhile.
	// Example: {secretKeyRef: {name: zapier, key: auth}}.
	// +optional
	ValueFrom *HeaderValueSource `json:"valueFrom,omitempty"`
}

// TLSSpec is what the connection needs beyond the usual. There is no switch that turns verification off.
type TLSSpec struct {
	// caSecretRef names the CA that signed the receiver's certificate, instead of the well-known ones. Absent by default.
	// Accepted=False (SecretNotFound, SecretNotLabelled, SecretKeyNotFound, InvalidTLS, CertificateUntrusted) says what is
	// wrong. Example: {name: crm-ca}.
	// +optional
	CASecretRef *CASecretReference `json:"caSecretRef,omitempty"`
	// clientCertificateSecretRef names a Secret of type kubernetes.io/tls (entries tls.crt and tls.key) whose certificate
	// is shown to the receiver. Absent by default. Accepted=False (SecretNotFound, SecretNotLabelled, SecretKeyNotFound,
	// InvalidTLS) says what is wrong. Example: {name: crm-client}.
	// +optional
	ClientCertificateSecretRef *SecretReference `json:"clientCertificateSecretRef,omitempty"`
	// serverName is the name that the receiver's certificate must carry and that is asked for in the handshake. Default:
	// the host of the URL. At most 253 characters. Accepted=False/CertificateUntrusted says that the certificate is for
	// another name. Example: crm.example.com.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$')",message="serverName is a host name in lower case, without scheme, port and wildcard, for example hooks.example.com"
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
	// when is OnChange or OnRequest. Default OnChange: a test event is sent at creation and whenever the place where
	// deliveries go changes, and Ready waits for it. OnRequest: only by the annotation webhooks.gary.club/requested-test
	// with TYPE or TYPE/TOKEN, which works with OnChange too. Test events are real to the receiver: they carry the header
	// webhook-test: true and a call id that begins with call_test_. TestDelivered says how the latest one went.
	// Example: OnRequest.
	// +optional
	// +kubebuilder:default=OnChange
	When TestPolicy `json:"when,omitempty"`
	// event is the type of the test event that is sent on a change. Default: the first of spec.events that is one of
	// call.completed, booking.created and contact.created, or else the first. Example: booking.created.
	// +optional
	Event EventType `json:"event,omitempty"`
}

// HistorySpec says how many finished DeliveryAttempts are kept.
type HistorySpec struct {
	// succeeded is how many delivered DeliveryAttempts are kept; older ones are deleted first. Default 10. 0 to 100.
	// Example: 100.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Succeeded int32 `json:"succeeded"`
	// failed is how many failed DeliveryAttempts are kept; older ones are deleted first. Default 50. 0 to 500.
	// Example: 200.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=500
	Failed int32 `json:"failed"`
	// ttlSecondsAfterFinished is how long a finished DeliveryAttempt is kept at the most, however few there are. Default
	// 604800 (a week). 60 to 7776000 (90 days). Example: 86400.
	// +optional
	// +kubebuilder:default=604800
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=7776000
	TTLSecondsAfterFinished int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// SuccessCode is a status code that counts as success: "200" to "299", or "2xx" for all of them.
// +kubebuilder:validation:MaxLength=3
// +kubebuilder:validation:XValidation:rule="self.matches('^(2[0-9][0-9]|2xx)$')",message="a success code is \"200\" to \"299\", or \"2xx\" for all of them"
type SuccessCode string

// WebhookEndpointSpec says which events go where, and how.
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.urlFrom)",message="set either url or urlFrom: one of them, and not both"
// +kubebuilder:validation:XValidation:rule="self.retry.initialBackoffSeconds <= self.retry.maxBackoffSeconds",fieldPath=".retry.initialBackoffSeconds",message="initialBackoffSeconds must not be more than maxBackoffSeconds: lower the one or raise the other"
// +kubebuilder:validation:XValidation:rule="self.retry.deadlineSeconds >= self.timeoutSeconds + self.retry.maxRetries * self.retry.initialBackoffSeconds",fieldPath=".retry.deadlineSeconds",message="the deadline leaves no room for the retries: deadlineSeconds must be at least timeoutSeconds + maxRetries * initialBackoffSeconds"
type WebhookEndpointSpec struct {
	// displayName is a descriptive name for people; nothing depends on it. At most 128 characters. Example: "Zapier — New
	// Call to Google Sheets".
	// +optional
	// +kubebuilder:validation:MaxLength=128
	DisplayName string `json:"displayName,omitempty"`
	// url is where events are posted: an https URL without user name and fragment, at most 2048 characters. Whoever may
	// read this object can read it; many webhook URLs are secrets, for which there is urlFrom. Exactly one of url and
	// urlFrom is set. Accepted=False says what is wrong with the place: HostNotFound, AddressRefused (it must be public,
	// unless the operator allows it), CertificateExpired, CertificateUntrusted, TLSFailed.
	// Example: https://hooks.example.com/catch/123.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.startsWith('https://')",message="url must begin with https://, since call data is never sent unencrypted"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[A-Za-z]+://[^/?#]*@')",message="url must not contain user information: remove what stands before the @ and send credentials as a header with valueFrom"
	// +kubebuilder:validation:XValidation:rule="!self.contains('#')",message="url must not contain a fragment: remove the # and what follows"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^\\\\pC\\\\pZ]+$') && isURL(self) && url(self).getHostname() != ''",message="url must be an absolute URL with a host and without spaces, for example https://hooks.example.com/catch/123"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*:[0-9]+([/?#]|$)') || self.matches('^[^/]*//[^/?#]*:0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])([/?#]|$)')",message="url must have a port from 1 to 65535, or none for 443"
	URL string `json:"url,omitempty"`
	// urlFrom reads the URL from a Secret, for URLs that are secrets themselves. Exactly one of url and urlFrom is set.
	// Accepted=False says what is wrong: URLSecretNotFound, URLSecretKeyNotFound, SecretNotLabelled, InvalidURL.
	// Example: {secretKeyRef: {name: slack-relay, key: url}}.
	// +optional
	URLFrom *URLSource `json:"urlFrom,omitempty"`
	// events are the types that fire this endpoint: call.completed, booking.created, contact.created, or custom.<name>. 1
	// to 32 of them, none twice. If a webhook never fires, a type is most often missing here. No order between events is
	// promised. Example: [call.completed, booking.created].
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Events []EventType `json:"events"`
	// agents restricts the endpoint to calls of these agent ids. Default: all agents. At most 100, none twice, 1 to 128
	// characters each. An event without an agent id goes to endpoints without this field only. Example: [agent_xyz].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Agents []string `json:"agents,omitempty"`
	// suspend holds deliveries back. Default false. They wait, within the endpoint's share of the queue and their
	// retry.deadlineSeconds, and go on when it is false again. Ready=True/Suspended shows it. Example: true.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// timeoutSeconds is how long one request may take, from connecting to the last byte of the answer. Default 10. 1 to
	// 30. An attempt that takes longer is TimedOut, and retried. Example: 20.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=30
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// successCodes are the status codes that count as success; any other answer is an attempt that failed as Rejected,
	// Throttled or Gone. Default ["200"]. 1 to 16 of "200" to "299", or "2xx" for all of them; they are strings, so write
	// the quotes. Example: ["200", "202"].
	// +optional
	// +listType=set
	// +kubebuilder:default={"200"}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	SuccessCodes []SuccessCode `json:"successCodes,omitempty"`
	// retry is the schedule of a delivery's attempts. Default: up to 3 retries, after about 5, 10 and 20 seconds. Example:
	// {maxRetries: 5, initialBackoffSeconds: 30, maxBackoffSeconds: 3600}.
	// +optional
	// +kubebuilder:default={}
	Retry RetrySpec `json:"retry,omitzero"`
	// signing says which key signs the requests, as Standard Webhooks 1.0 describes. Default: a key that the manager makes.
	// SigningKeyReady says whether there is one. Example: {secretRef: {name: zapier-signing}}.
	// +optional
	// +kubebuilder:default={}
	Signing SigningSpec `json:"signing,omitzero"`
	// headers are added to each request. At most 20, no name twice, whatever its case. Accepted=False/InvalidHeader says
	// that a value from a Secret cannot be sent. Example: [{name: X-Client, value: acme}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))",message="a header is named twice: names are compared without regard to case, so keep one of them"
	Headers []Header `json:"headers,omitempty"`
	// tls is what the connection needs beyond TLS 1.2 and the well-known CAs. Absent by default. Verification cannot be
	// turned off. Accepted=False/InvalidTLS says what cannot be read. Example: {caSecretRef: {name: crm-ca}}.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
	// maxInFlight bounds the requests to this endpoint under way at once, for each dispatcher; it shrinks by itself while
	// the receiver times out. Default 16. 1 to 256. Example: 4.
	// +optional
	// +kubebuilder:default=16
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	MaxInFlight int32 `json:"maxInFlight,omitempty"`
	// test says when a test event is sent, and which. Default: on every change of where deliveries go. TestDelivered says
	// how it went. Example: {when: OnRequest}.
	// +optional
	// +kubebuilder:default={}
	Test TestSpec `json:"test,omitzero"`
	// history says how many finished DeliveryAttempts are kept. Default: 10 delivered and 50 failed ones, for a week. The
	// operator's limits for namespace and cluster come on top. Example: {succeeded: 0, failed: 200}.
	// +optional
	// +kubebuilder:default={}
	History HistorySpec `json:"history,omitzero"`
}

// WebhookEndpoint is a URL that call events are delivered to: signed, over HTTPS, with retries. Its deliveries are
// recorded as DeliveryAttempts.
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
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec says which events go where, and how.
	// +required
	Spec WebhookEndpointSpec `json:"spec"`
	// status says how the endpoint does; the manager writes it.
	// +optional
	Status WebhookEndpointStatus `json:"status,omitzero"`
}

// WebhookEndpointList is a list of endpoints.
// +kubebuilder:object:root=true
type WebhookEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []WebhookEndpoint `json:"items"`
}
