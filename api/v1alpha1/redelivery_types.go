// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RedeliverySpec says which failed deliveries are sent again. It never changes: another order is another object.
// +kubebuilder:validation:XValidation:rule="!has(self.since) || !has(self.until) || timestamp(self.since) < timestamp(self.until)",message="until must be later than since"
type RedeliverySpec struct {
	// endpointRef names the WebhookEndpoint, in the same namespace, whose failed deliveries are sent again: to where the
	// endpoint points now, signed with the keys that it has now. Example: {name: zapier-sheets}.
	// +required
	EndpointRef EndpointReference `json:"endpointRef"`
	// since leaves out what failed before this time: status.completionTime of a DeliveryAttempt. Absent: all that is still
	// kept. Example: "2026-11-25T09:30:00Z".
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// until leaves out what failed at this time or later. Absent, and at the latest: when this object was created. Example:
	// "2026-11-25T10:15:00Z".
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// callIDs restricts the order to events of these calls. Default: all calls. At most 100, none twice. Example:
	// [call_abc123].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	CallIDs []string `json:"callIDs,omitempty"`
	// eventIDs restricts the order to these events: spec.event.id of a DeliveryAttempt. Default: all events. At most 100,
	// none twice. Example: [evt_0192c7be5a3f7d3e8f0a1b2c3d4e5f60].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	EventIDs []string `json:"eventIDs,omitempty"`
	// limit bounds how many deliveries are sent again. In each queue the ones that failed first go first. Default 1000. 1
	// to 10,000. Example: 50.
	// +optional
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	Limit int32 `json:"limit,omitempty"`
	// dryRun counts what the order names and sends nothing. Default false. status.matched has the number. Example: true.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
	// ttlSecondsAfterFinished is how long this object is kept once it is complete. Default 604800, a week. 0 to 31,536,000.
	// What a GitOps tool applies again after that is another order: give it until. Example: 3600.
	// +optional
	// +kubebuilder:default=604800
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=31536000
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
	// requestedBy is the user who created this object, as the API server knows him. Leave it out: it is written at
	// admission. Another name than one's own is refused. Example: alice@example.com.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	RequestedBy string `json:"requestedBy,omitempty"`
}

// RedeliveryStatus says how far an order has come.
type RedeliveryStatus struct {
	// observedGeneration is the generation that the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// matched is how many failed deliveries the order names whose payload was still there.
	// +optional
	Matched int64 `json:"matched"`
	// redelivered is how many of them wait to be sent again, or have been. Each has a DeliveryAttempt of its own with
	// trigger Redelivery, and the webhook-id that it always had.
	// +optional
	Redelivered int64 `json:"redelivered"`
	// queues is how many queues were asked, and how many of them have answered. A queue is a dispatcher's, or the gateway's.
	// +optional
	Queues *RedeliveryQueues `json:"queues,omitempty"`
	// results are what the queues with such deliveries have answered, those that are gone since included. At most 100, the
	// ones that sent the most.
	// +optional
	// +listType=map
	// +listMapKey=queueID
	// +kubebuilder:validation:MaxItems=100
	Results []RedeliveryResult `json:"results,omitempty"`
	// startTime is when the manager took the order up.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// completionTime is when the order was carried out or given up; spec.ttlSecondsAfterFinished counts from here.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// conditions has Complete: Unknown/Running while queues are asked; True/Redelivered, True/NothingMatched,
	// True/Counted for a dry run, and True/Partial when something that the order names was left out, with the cause in the
	// message; False/EndpointNotFound and False/NoAnswer, when no dispatcher has answered. Reconciling and Stalled follow
	// kstatus.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RedeliveryQueues counts the queues that an order concerns.
type RedeliveryQueues struct {
	// asked counts the queues that are connected, and those that are not and may hold failed deliveries of the endpoint.
	// +required
	Asked int32 `json:"asked"`
	// answered counts those of them that have carried the order out.
	// +required
	Answered int32 `json:"answered"`
}

// RedeliveryResult is what one queue has answered.
type RedeliveryResult struct {
	// queueID names the queue, as status.queueID of a DeliveryAttempt does.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	QueueID string `json:"queueID"`
	// matched is how many failed deliveries it held that the order names.
	// +required
	Matched int64 `json:"matched"`
	// redelivered is how many of them it has sent again.
	// +required
	Redelivered int64 `json:"redelivered"`
}

// Redelivery is a person's order to send failed deliveries of an endpoint again. The dispatchers that hold their
// payloads carry it out.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=redeliveries,shortName=whr,categories=webhooks
// +kubebuilder:selectablefield:JSONPath=`.spec.endpointRef.name`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.spec.endpointRef.name`
// +kubebuilder:printcolumn:name="Complete",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].reason`
// +kubebuilder:printcolumn:name="Matched",type=integer,JSONPath=`.status.matched`
// +kubebuilder:printcolumn:name="Redelivered",type=integer,JSONPath=`.status.redelivered`
// +kubebuilder:printcolumn:name="Requested-By",type=string,priority=1,JSONPath=`.spec.requestedBy`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Complete")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Redelivery struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec says what is sent again; it cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a Redelivery is an order and cannot be changed; create another one"
	Spec RedeliverySpec `json:"spec"`
	// status says how far the order has come; the manager writes it.
	// +optional
	Status RedeliveryStatus `json:"status,omitzero"`
}

// RedeliveryList is a list of orders.
// +kubebuilder:object:root=true
type RedeliveryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Redelivery `json:"items"`
}
