// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SigningStatus says where the signing key is.
type SigningStatus struct {
	// secretName is the Secret that holds the key; receivers need its entry signing-key to verify signatures.
	// Example: zapier-signing.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
	// keys is how many keys sign each request: 1, or 2 during a rotation. 0 while SigningKeyReady=False.
	// +optional
	Keys int32 `json:"keys,omitempty"`
}

// CertificateStatus is what the receiver's certificate says.
type CertificateStatus struct {
	// issuer is the common name of who signed the receiver's certificate. Example: R11.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Issuer string `json:"issuer,omitempty"`
	// notAfterTime is when the receiver's certificate expires. Accepted=False/CertificateExpired says when it has.
	// +optional
	NotAfterTime *metav1.Time `json:"notAfterTime,omitempty"`
}

// TestStatus is the latest test event. TestDelivered shows its outcome as a condition.
type TestStatus struct {
	// requested is the value of the annotation webhooks.gary.club/requested-test that was handled last, cut off after 256
	// characters. Example: call.completed/2026-02-15T14:32:00Z.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Requested string `json:"requested,omitempty"`
	// time is when the answer to the test event came, or its absence was certain.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
	// event is the type that was sent. Example: call.completed.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	Event string `json:"event,omitempty"`
	// outcome is what the test came to: Delivered, Rejected, Throttled, Gone, TimedOut, Unreachable, TLSFailed,
	// AddressRefused or Interrupted.
	// +optional
	Outcome AttemptOutcome `json:"outcome,omitempty"`
	// statusCode is the answer's HTTP status code; absent when there was no answer. Example: 200.
	// +optional
	StatusCode int32 `json:"statusCode,omitempty"`
	// durationMilliseconds is how long the request took, from connecting to the last byte of the answer. Example: 84.
	// +optional
	DurationMilliseconds int64 `json:"durationMilliseconds,omitempty"`
	// message says in words what happened. It never holds anything of URL, headers or body. Example: answered 404.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
	// hash stands for where the test went, so that the same place is not tested again. It is opaque: compare it for
	// equality only; what it is made of changes between versions.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Hash string `json:"hash,omitempty"`
}

// DeliveriesStatus counts the deliveries of this endpoint; succeeded + failed + pending + lost is all that were accepted
// for it. The figures come from the dispatchers' own counters. They never go backwards (but for pending), and are exact
// once all dispatchers have reported. Test events are not among them.
type DeliveriesStatus struct {
	// succeeded is how many were delivered.
	// +optional
	Succeeded int64 `json:"succeeded"`
	// failed is how many failed for good. Each is a DeliveryAttempt with outcome Failed, as far as those are kept.
	// +optional
	Failed int64 `json:"failed"`
	// pending is how many wait for their first attempt or are retried.
	// +optional
	Pending int64 `json:"pending"`
	// lost is how many were waiting in a queue whose disk is gone: a lost node or an evicted pod with an emptyDir.
	// +optional
	Lost int64 `json:"lost"`
	// unrecorded is how many of succeeded and failed never got a DeliveryAttempt, since there were more deliveries than the
	// operator's write budget has room for. They are counted, logged and measured all the same.
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
	// connected is how many dispatchers of this namespace are connected to the manager.
	// +optional
	Connected int32 `json:"connected"`
	// upToDate is how many of the connected ones deliver by the current state of this endpoint.
	// Ready=False/WaitingForDispatchers waits for them, within a bound.
	// +optional
	UpToDate int32 `json:"upToDate"`
}

// WebhookEndpointStatus says how the endpoint does.
type WebhookEndpointStatus struct {
	// observedGeneration is the metadata.generation of the spec that this status is about; when it is smaller, the manager
	// has not seen the latest change yet.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Ready, Accepted, SigningKeyReady, TestDelivered and Delivering, and Reconciling or Stalled while true.
	// Ready summarises the others; its reason says which of them to look at, and their messages what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// host is the host of the URL, with its port when it has one; path and query are not shown.
	// Example: hooks.zapier.com.
	// +optional
	// +kubebuilder:validation:MaxLength=262
	Host string `json:"host,omitempty"`
	// signing says where the signing key is. SigningKeyReady says whether there is one.
	// +optional
	Signing *SigningStatus `json:"signing,omitempty"`
	// certificate is what the receiver's certificate said when the manager last looked.
	// +optional
	Certificate *CertificateStatus `json:"certificate,omitempty"`
	// test is the latest test event. TestDelivered shows its outcome as a condition.
	// +optional
	Test *TestStatus `json:"test,omitempty"`
	// deliveries counts what was accepted for this endpoint: succeeded + failed + pending + lost.
	// +optional
	Deliveries *DeliveriesStatus `json:"deliveries,omitempty"`
	// dispatchers counts the namespace's dispatchers, and those that deliver by the current state of this endpoint.
	// +optional
	Dispatchers *DispatchersStatus `json:"dispatchers,omitempty"`
}
