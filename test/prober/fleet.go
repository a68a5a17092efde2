// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"slices"
	"time"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// namespaces have the same endpoints; the first has two dispatchers, so that their counters have to be summed.
var namespaces = []string{"probe-a", "probe-b"}

// dispatchers are the namespaces of the dispatchers.
var dispatchers = []string{"probe-a", "probe-a", "probe-b"}

// receiverHTTP1 says which receivers keep to HTTP/1.1.
var receiverHTTP1 = []bool{false, true, false, true, false, true}

// member is one endpoint of the fleet, in each namespace.
type member struct {
	name      string
	receiver  int
	events    []v1alpha1.EventType
	behaviour Behaviour
	retry     v1alpha1.RetrySpec
	// fate is what faults do to it beyond those that all endpoints share; an endpoint with Recreated or Deleted is not
	// there all the time.
	fate Kind
}

// stable says that it is there from the beginning to the end, so that it has to get every event that it asks for.
func (m member) stable() bool { return m.fate != Recreated && m.fate != Deleted }

var (
	patient = v1alpha1.RetrySpec{MaxRetries: 8, InitialBackoffSeconds: 1, MaxBackoffSeconds: 2, DeadlineSeconds: 3600}
	brisk   = v1alpha1.RetrySpec{MaxRetries: 1, InitialBackoffSeconds: 1, MaxBackoffSeconds: 1, DeadlineSeconds: 3600}
	lasting = v1alpha1.RetrySpec{MaxRetries: 10, InitialBackoffSeconds: 60, MaxBackoffSeconds: 300, DeadlineSeconds: 86400}
)

const (
	eventBroken = v1alpha1.EventType("custom.broken")
	eventGone   = v1alpha1.EventType("custom.gone")
	eventMoving = v1alpha1.EventType("custom.moving")
	eventDoomed = v1alpha1.EventType("custom.doomed")
)

var fleet = []member{
	{name: "steady", receiver: 0, events: types(v1alpha1.EventCallCompleted), retry: patient},
	{name: "flaky", receiver: 1, events: types(v1alpha1.EventCallCompleted, v1alpha1.EventBookingCreated), retry: patient,
		behaviour: Behaviour{Refuse: 0.15}},
	{name: "slow", receiver: 2, events: types(v1alpha1.EventBookingCreated), retry: patient,
		behaviour: Behaviour{Shortest: 20 * time.Millisecond, Longest: 400 * time.Millisecond}},
	{name: "hanging", receiver: 3, events: types(v1alpha1.EventContactCreated), retry: patient, behaviour: Behaviour{Hang: 0.02}},
	{name: "throttling", receiver: 4, events: types(v1alpha1.EventContactCreated), retry: patient, behaviour: Behaviour{Throttle: 0.1}},
	{name: "resetting", receiver: 5, events: types(v1alpha1.EventCallCompleted), retry: patient, behaviour: Behaviour{Reset: 0.04, Forget: 0.02}},
	{name: "broken", receiver: 5, events: types(eventBroken), retry: brisk, behaviour: Behaviour{Status: 500}},
	{name: "gone", receiver: 4, events: types(eventGone), retry: patient, fate: Gone},
	{name: "moving", receiver: 2, events: types(eventMoving, v1alpha1.EventBookingCreated), retry: patient, fate: Recreated},
	{name: "doomed", receiver: 3, events: types(eventDoomed), retry: lasting, behaviour: Behaviour{Status: 503}, fate: Deleted},
}

func types(all ...v1alpha1.EventType) []v1alpha1.EventType { return all }

// mix is how often each type is posted, in parts of a thousand.
var mix = []struct {
	event v1alpha1.EventType
	parts int
}{
	{v1alpha1.EventCallCompleted, 400}, {v1alpha1.EventBookingCreated, 260}, {v1alpha1.EventContactCreated, 260},
	{eventBroken, 15}, {eventGone, 25}, {eventMoving, 30}, {eventDoomed, 10},
}

// place is a member in a namespace.
type place struct {
	namespace string
	member
}

func (p place) path() string { return pathOf(p.namespace, p.name) }

func pathOf(namespace, name string) string { return "/" + namespace + "/" + name }

// places are the members in all namespaces; with a fate, those that have it.
func places(fates ...Kind) (all []place) {
	for _, namespace := range namespaces {
		for _, m := range fleet {
			if len(fates) == 0 || m.fate == fates[0] {
				all = append(all, place{namespace, m})
			}
		}
	}
	return all
}

// steadfast are those without a fate, for faults that may hit any endpoint.
func steadfast() (all []place) {
	for _, p := range places() {
		if p.fate == "" {
			all = append(all, p)
		}
	}
	return all
}

// requiredOf are the endpoints of a namespace, by path, that have to get an event of the type; possibleOf are those that
// may get it, which are not there all the time.
func requiredOf(namespace, event string) map[string]bool { return asked(namespace, event, true) }

func possibleOf(namespace, event string) map[string]bool { return asked(namespace, event, false) }

func asked(namespace, event string, stableOnly bool) map[string]bool {
	all := map[string]bool{}
	for _, p := range places() {
		if p.namespace == namespace && (p.stable() || !stableOnly) && slices.Contains(p.events, v1alpha1.EventType(event)) {
			all[p.path()] = true
		}
	}
	return all
}
