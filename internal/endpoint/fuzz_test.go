// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"testing"

	"github.com/garyclub/webhook-operator/internal/event"
)

// FuzzSucceeds: an answer is a success when its code is listed in decimals, or is of the 200s and these are listed.
func FuzzSucceeds(f *testing.F) {
	f.Add("200", 200)
	f.Add("2xx", 204)
	f.Add("2xx", 992)
	f.Add("", 0)
	f.Add("2:0", 300)
	f.Add("999", 999)
	f.Fuzz(func(t *testing.T, listed string, code int) {
		p := &Endpoint{SuccessCodes: []string{listed}}
		want := listed == "2xx" && code >= 200 && code <= 299 || listed == fmt.Sprint(code)
		if got := p.Succeeds(code); got != want {
			t.Errorf("%d with %q listed: success %v, want %v", code, listed, got, want)
		}
	})
}

// FuzzRevision: two endpoints that differ in a text have two revisions, however the texts are cut.
func FuzzRevision(f *testing.F) {
	f.Add("https://a.example/", "agent", "X-A", "v", []byte("key"))
	f.Add("", "", "", "", []byte{})
	f.Fuzz(func(t *testing.T, url, agent, name, value string, key []byte) {
		build := func() *Endpoint {
			return &Endpoint{URL: url, Agents: []string{agent}, Headers: []Header{{Name: name, Value: value}}, SigningKeys: [][]byte{key}}
		}
		p := build()
		before := Revision(p)
		if before != Revision(build()) {
			t.Fatal("the same endpoint has two revisions")
		}
		for what, change := range map[string]func(){
			"a byte of the name is the value's": func() { p.Headers[0] = Header{Name: name + "x", Value: value} },
			"two agents":                        func() { p.Agents = []string{agent, ""} },
			"another key":                       func() { p.SigningKeys = [][]byte{append([]byte{0}, key...)} },
			"another URL":                       func() { p.URL += "x" },
			"an event":                          func() { p.Events = []event.Type{event.CallCompleted} },
		} {
			p = build()
			change()
			if Revision(p) == before {
				t.Errorf("%s: the revision is the same", what)
			}
		}
	})
}
