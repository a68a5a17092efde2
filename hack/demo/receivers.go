// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"

	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// manner is how the receiver of a sample behaves, and what a delivery to it comes to.
type manner struct {
	title   string
	options receiver.Options
	// deliveries is how many of the posted events are for it; the others say what each comes to.
	deliveries int
	outcome    string
	attempts   int
	code       int
	reason     string
	// ready is the endpoint's Ready when all is over.
	ready, status string
}

// manners has one for each endpoint of config/samples, in the order of the samples.
var manners = []struct {
	endpoint string
	manner
}{
	{"zapier-sheets", manner{
		title: "answers 200", deliveries: 2, outcome: "Delivered", attempts: 1, code: 200, ready: "True", status: "Ready",
	}},
	{"slack-relay", manner{
		title: "answers 503 twice and then 200", deliveries: 1, outcome: "Delivered", attempts: 3, code: 200, ready: "True", status: "Ready",
		options: receiver.Options{PerEvent: true, Test: &receiver.Step{},
			Script: []receiver.Step{{Status: http.StatusServiceUnavailable}, {Status: http.StatusServiceUnavailable}, {}}},
	}},
	{"call-dashboard", manner{
		title: "answers 500 for ever", deliveries: 3, outcome: "Failed", attempts: 4, code: 500, reason: "Rejected", ready: "False", status: "TestFailed",
		options: receiver.Options{Script: []receiver.Step{{Status: http.StatusInternalServerError}}},
	}},
	{"onboarding-workflow", manner{
		title: "never answers", deliveries: 1, outcome: "Failed", attempts: 4, reason: "TimedOut", ready: "True", status: "Ready",
		options: receiver.Options{Script: []receiver.Step{{Hang: true}}},
	}},
	{"crm", manner{
		title: "answers 302", deliveries: 2, outcome: "Failed", attempts: 4, code: 302, reason: "Rejected", ready: "False", status: "TestFailed",
	}},
}

type receivers struct {
	ca  *pki.CA
	all map[string]*receiver.Receiver // by the name of the endpoint
	// elsewhere is where the 302 points to: nothing may ever come there.
	elsewhere *receiver.Receiver
}

func startReceivers() (r receivers, err error) {
	r = receivers{ca: pki.NewCA("demo CA"), all: map[string]*receiver.Receiver{}}
	if r.elsewhere, err = receiver.Start(r.ca, receiver.Options{}); err != nil {
		return r, err
	}
	for _, m := range manners {
		o := m.options
		if m.code == http.StatusFound {
			o.Script = []receiver.Step{{Status: http.StatusFound, Header: http.Header{"Location": {r.elsewhere.URL("/moved")}}}}
		}
		if r.all[m.endpoint], err = receiver.Start(r.ca, o); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r receivers) close() {
	for _, one := range r.all {
		one.Close()
	}
	r.elsewhere.Close()
}
