// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// EventType names what an endpoint subscribes to: call.completed, booking.created, contact.created, or custom.<name>.
// +kubebuilder:validation:MaxLength=71
// +kubebuilder:validation:XValidation:rule="self in ['call.completed', 'booking.created', 'contact.created'] || self.matches('^custom[.][a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$')",message="unknown event type: use call.completed, booking.created, contact.created, or a type of your own as custom.<name> in lower case"
type EventType string

// The event types of the product's page. Others are of the form custom.<name>.
const (
	EventCallCompleted  EventType = "call.completed"
	EventBookingCreated EventType = "booking.created"
	EventContactCreated EventType = "contact.created"
)

// TestEvent is the type of the test event that is sent on a change: test.event, or else the first of events that is one
// of the page's types, since there is a sample payload for those, or else the first.
func (s *WebhookEndpointSpec) TestEvent() EventType {
	if s.Test.Event != "" {
		return s.Test.Event
	}
	for _, t := range s.Events {
		switch t {
		case EventCallCompleted, EventBookingCreated, EventContactCreated:
			return t
		}
	}
	if len(s.Events) == 0 {
		return EventCallCompleted
	}
	return s.Events[0]
}
