// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DeliveryTrigger says what asked for a delivery.
// +kubebuilder:validation:Enum=Event;Test;Redelivery
type DeliveryTrigger string

// The triggers of a delivery.
const (
	TriggerEvent      DeliveryTrigger = "Event"
	TriggerTest       DeliveryTrigger = "Test"
	TriggerRedelivery DeliveryTrigger = "Redelivery"
)

// DeliveryOutcome says where a delivery stands.
// +kubebuilder:validation:Enum=Pending;Retrying;Delivered;Failed
type DeliveryOutcome string

// The outcomes of a delivery.
const (
	DeliveryPending   DeliveryOutcome = "Pending"
	DeliveryRetrying  DeliveryOutcome = "Retrying"
	DeliveryDelivered DeliveryOutcome = "Delivered"
	DeliveryFailed    DeliveryOutcome = "Failed"
)

// AttemptOutcome says what one request came to.
// +kubebuilder:validation:Enum=Delivered;Rejected;Throttled;Gone;TimedOut;Unreachable;TLSFailed;AddressRefused;Interrupted
type AttemptOutcome string

// The outcomes of an attempt.
const (
	OutcomeDelivered      AttemptOutcome = "Delivered"
	OutcomeRejected       AttemptOutcome = "Rejected"  // an answer that is no success, redirects included
	OutcomeThrottled      AttemptOutcome = "Throttled" // 429, or 503 with Retry-After
	OutcomeGone           AttemptOutcome = "Gone"      // 410
	OutcomeTimedOut       AttemptOutcome = "TimedOut"
	OutcomeUnreachable    AttemptOutcome = "Unreachable"
	OutcomeTLSFailed      AttemptOutcome = "TLSFailed"
	OutcomeAddressRefused AttemptOutcome = "AddressRefused"
	OutcomeInterrupted    AttemptOutcome = "Interrupted"
)

// EventReference says which event is delivered; it holds nothing of the payload but ids.
type EventReference struct {
	// id of the event: the webhook-id header of every attempt, by which receivers can tell a repeated request.
	// Example: evt_0192c7be5a3f7d3e8f0a1b2c3d4e5f60.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id"`
	// type of the event. It can be selected: --field-selector spec.event.type=call.completed. Example: call.completed.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=80
	Type string `json:"type"`
	// time is the timestamp that the producer gave the event.
	// +required
	Time metav1.Time `json:"time"`
	// callID is the payload's call.id; absent when it has none. One call can raise several events. Example: call_abc123.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	CallID string `json:"callID,omitempty"`
	// agentID is the payload's call.agent_id; absent when it has none. Example: agent_xyz.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	AgentID string `json:"agentID,omitempty"`
}

// PayloadMeasure lets a person compare what a receiver got with what was sent, without the payload being here.
type PayloadMeasure struct {
	// bytes is the payload's size. Example: 1043.
	// +required
	// +kubebuilder:validation:Minimum=0
	Bytes int64 `json:"bytes"`
	// sha256 is the payload's digest, in 64 hexadecimal digits, as sha256sum prints it.
	// +required
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	SHA256 string `json:"sha256"`
}

// DeliveryAttemptSpec says what is delivered where. It never changes.
type DeliveryAttemptSpec struct {
	// endpointRef names the WebhookEndpoint that the event is delivered to. It can be selected: --field-selector
	// spec.endpointRef.name=zapier-sheets.
	// +required
	EndpointRef EndpointReference `json:"endpointRef"`
	// event says what is delivered, by its ids.
	// +required
	Event EventReference `json:"event"`
	// trigger says what asked for the delivery: Event (a call event), Test (a test event) or Redelivery (a person).
	// Default Event.
	// +optional
	// +kubebuilder:default=Event
	Trigger DeliveryTrigger `json:"trigger,omitempty"`
	// redelivery is the name of the Redelivery that asked for it; absent for the other triggers. Example: outage-0925.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Redelivery string `json:"redelivery,omitempty"`
	// payload is the measure of what is sent; the payload itself is never kept in the cluster.
	// +required
	Payload PayloadMeasure `json:"payload"`
}

// Attempt is one request.
type Attempt struct {
	// number counts the requests of this delivery from 1.
	// +required
	// +kubebuilder:validation:Minimum=1
	Number int32 `json:"number"`
	// startTime is when the request began.
	// +required
	StartTime metav1.MicroTime `json:"startTime"`
	// durationMilliseconds is how long it took, from connecting to the last byte of the answer. Example: 84.
	// +optional
	DurationMilliseconds int64 `json:"durationMilliseconds"`
	// outcome is what it came to: Delivered; Rejected, an answer that is no success, redirects included; Throttled, 429 or
	// 503 with Retry-After; Gone, 410, which ends the delivery; TimedOut, no whole answer within the endpoint's
	// timeoutSeconds; Unreachable, no connection, or it broke; TLSFailed; AddressRefused, a private or special address;
	// Interrupted, our own process ended meanwhile.
	// +required
	Outcome AttemptOutcome `json:"outcome"`
	// statusCode is the answer's HTTP status code; 0 when there was no answer. Example: 200.
	// +optional
	StatusCode int32 `json:"statusCode"`
	// message says in words what happened; absent for a success. It never holds anything of URL, headers or body.
	// Example: no complete answer within the timeout.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// DeliveryAttemptStatus says how far a delivery has come.
type DeliveryAttemptStatus struct {
	// outcome is where the delivery stands: Pending (no attempt yet), Retrying (an attempt failed, the next is due at
	// nextAttemptTime), Delivered or Failed. It can be selected: --field-selector status.outcome=Failed. The condition
	// Succeeded says the same.
	// +optional
	Outcome DeliveryOutcome `json:"outcome,omitempty"`
	// reason says why a delivery is retried or failed: the outcome of its last attempt, or DeadlineExceeded, QueueFull,
	// QueueLost, EndpointDeleted. Absent for deliveries without a failure to explain. Example: TimedOut.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// lastStatusCode is the HTTP status code of the latest attempt; absent when there was no answer. Example: 503.
	// +optional
	LastStatusCode int32 `json:"lastStatusCode,omitempty"`
	// attempts are the requests made, oldest first. At most 16: the first one, which says when it began to fail, and the
	// latest, which say how it fails now.
	// +optional
	// +listType=map
	// +listMapKey=number
	// +kubebuilder:validation:MaxItems=16
	Attempts []Attempt `json:"attempts,omitempty"`
	// attemptCount is the number of requests made, those no longer in attempts included.
	// +optional
	AttemptCount int32 `json:"attemptCount"`
	// maxAttempts is how many requests there are at the most: one and the endpoint's spec.retry.maxRetries.
	// +optional
	MaxAttempts int32 `json:"maxAttempts,omitempty"`
	// nextAttemptTime is when the next request is due; present while retrying.
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`
	// completionTime is when the delivery was delivered or failed; absent before that. The endpoint's spec.history counts
	// from here.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// redeliverableUntilTime is until when the payload of a failed delivery is kept, so that a Redelivery can send it again;
	// absent when it is not kept. It may go earlier: with its queue, when it was sent again, or when there are so many that
	// the oldest make room.
	// +optional
	RedeliverableUntilTime *metav1.Time `json:"redeliverableUntilTime,omitempty"`
	// queueID names the dispatcher's queue that holds the delivery, or held it last; absent when no queue did, as for test
	// events. All records with the same id end as QueueLost when the disk behind that queue is gone.
	// Example: 5ad13e0f-0a0b-4c3c-9f52-1d1f4d0c2b11.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	QueueID string `json:"queueID,omitempty"`
	// handOvers counts how often the delivery moved from one queue to another, as from a pod that is deleted to the
	// gateway; absent when it never did. Example: 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	HandOvers int32 `json:"handOvers,omitempty"`
	// conditions has Succeeded: Unknown/Pending and Unknown/Retrying while active; True/Delivered; False with the outcome
	// of the last attempt, or with DeadlineExceeded, QueueFull, QueueLost or EndpointDeleted.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// DeliveryAttempt is one delivery: one event for one endpoint, with all its attempts. The manager writes it; below the
// write budget there is one for every delivery.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=dlva,categories=webhooks
// +kubebuilder:selectablefield:JSONPath=`.spec.endpointRef.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.event.type`
// +kubebuilder:selectablefield:JSONPath=`.status.outcome`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.spec.endpointRef.name`
// +kubebuilder:printcolumn:name="Event",type=string,JSONPath=`.spec.event.type`
// +kubebuilder:printcolumn:name="Outcome",type=string,JSONPath=`.status.outcome`
// +kubebuilder:printcolumn:name="Attempts",type=integer,JSONPath=`.status.attemptCount`
// +kubebuilder:printcolumn:name="Code",type=integer,JSONPath=`.status.lastStatusCode`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Next",type=string,format=date-time,JSONPath=`.status.nextAttemptTime`
// +kubebuilder:printcolumn:name="Call",type=string,priority=1,JSONPath=`.spec.event.callID`
// +kubebuilder:printcolumn:name="Trigger",type=string,priority=1,JSONPath=`.spec.trigger`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type DeliveryAttempt struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec says what is delivered where; it cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a DeliveryAttempt is a record and cannot be changed; to send an event again, redeliver it"
	Spec DeliveryAttemptSpec `json:"spec"`
	// status says how far the delivery has come; the manager writes it.
	// +optional
	Status DeliveryAttemptStatus `json:"status,omitzero"`
}

// DeliveryAttemptList is a list of deliveries.
// +kubebuilder:object:root=true
type DeliveryAttemptList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DeliveryAttempt `json:"items"`
}
