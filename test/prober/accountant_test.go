// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

const one, two, changing = "/team/one", "/team/two", "/team/changing"

// books are of four events, one of them unanswered, that ended in every way there is.
func books() Books {
	paths := func(all ...string) func(string, string) map[string]bool {
		return func(namespace, _ string) map[string]bool {
			set := map[string]bool{}
			for _, path := range all {
				set[path] = namespace == "team"
			}
			return set
		}
	}
	return Books{
		Required: paths(one, two), Possible: paths(one, two, changing),
		Postings: []Posting{
			{UID: "call_1", Namespace: "team", Sum: "s1", Fate: Accepted, EventID: "evt_1", Deliveries: 2},
			{UID: "call_2", Namespace: "team", Sum: "s2", Fate: Accepted, EventID: "evt_2", Deliveries: 3},
			{UID: "call_3", Namespace: "team", Sum: "s3", Fate: Unanswered},
			{UID: "call_4", Namespace: "team", Sum: "s4", Fate: Refused},
		},
		Arrivals: []Arrival{
			{NoteTaken, one, "evt_1", "call_1", "s1", true},
			{NoteForgotten, two, "evt_1", "call_1", "s1", true},
			{NoteTaken, two, "evt_1", "call_1", "s1", true},
			{NoteTaken, one, "evt_2", "call_2", "s2", false},
			{NoteTaken, one, "evt_3", "call_3", "s3", true},
			{NoteTaken, two, "evt_3", "call_3", "s3", true},
		},
		Dead: []Letter{
			{two, "evt_2", "call_2", "Rejected"},
			{changing, "evt_2", "call_2", delivery.ReasonEndpointDeleted},
		},
		Counts: map[string]Count{one: {Succeeded: 3}, two: {Succeeded: 2, Failed: 1}},
	}
}

func TestBooksThatAgree(t *testing.T) {
	got, problems := Settle(books())
	want := Account{Events: 4, Accepted: 2, Refused: 1, Unanswered: 1, Deliveries: 5, Delivered: 3, Failed: 1, EndpointDeleted: 1,
		UnansweredDeliveries: 2, FailedByReason: map[string]int{"Rejected": 1}}
	if diff := cmp.Diff(want, got); diff != "" || len(problems) > 0 {
		t.Errorf("problems %q, account (-want +got):\n%s", problems, diff)
	}
}

// An accountant that finds nothing in tampered books would prove nothing.
func TestTamperedBooksAreFound(t *testing.T) {
	for name, tc := range map[string]struct {
		tamper      func(*Books)
		wantAccount func(Account) bool
		wantProblem string
	}{
		"a delivery that arrived is taken away": {
			tamper:      func(b *Books) { b.Arrivals = slices.Delete(b.Arrivals, 0, 1) },
			wantAccount: func(a Account) bool { return a.Lost == 1 && a.Deliveries == 5 }, wantProblem: "lost: event evt_1"},
		"a dead letter is taken away": {
			tamper:      func(b *Books) { b.Dead = b.Dead[1:] },
			wantAccount: func(a Account) bool { return a.Lost == 1 && a.Failed == 0 }, wantProblem: "lost: event evt_2"},
		"a delivery of an endpoint that came and went is taken away": {
			tamper:      func(b *Books) { b.Dead = b.Dead[:1] },
			wantAccount: func(a Account) bool { return a.Lost == 1 && a.EndpointDeleted == 0 }, wantProblem: "accepted with 3 deliveries, 2 are known"},
		"the number of deliveries is not known, and one is missing": {
			tamper: func(b *Books) {
				b.Postings[0].Deliveries = -1
				b.Arrivals = slices.Delete(b.Arrivals, 0, 1)
			},
			wantAccount: func(a Account) bool { return a.Lost == 1 }, wantProblem: "lost: event evt_1"},
		"an answer that was never sent is no delivery": {
			tamper:      func(b *Books) { b.Arrivals = slices.Delete(b.Arrivals, 2, 3) },
			wantAccount: func(a Account) bool { return a.Lost == 1 }, wantProblem: "lost: event evt_1"},
		"one delivery more than was answered": {
			tamper:      func(b *Books) { b.Postings[1].Deliveries = 2 },
			wantAccount: func(a Account) bool { return a.Lost == 0 }, wantProblem: "accepted with 2 deliveries, 3 are known"},
		"a delivery comes twice": {
			tamper:      func(b *Books) { b.Arrivals = append(b.Arrivals, b.Arrivals[0]) },
			wantAccount: func(a Account) bool { return a.Duplicates == 1 && a.Lost == 0 && a.Delivered == 3 }},
		"a signature is wrong": {
			tamper:      func(b *Books) { b.Arrivals[1].Note = NoteForged },
			wantAccount: func(a Account) bool { return a.Forged == 1 }, wantProblem: "no key of the endpoint"},
		"an event that nobody posted": {
			tamper: func(b *Books) {
				b.Arrivals = append(b.Arrivals, Arrival{NoteTaken, one, "evt_9", "call_9", "s9", true})
			},
			wantAccount: func(a Account) bool { return a.Forged == 1 }, wantProblem: "nobody posted it"},
		"an event that was refused": {
			tamper: func(b *Books) {
				b.Arrivals = append(b.Arrivals, Arrival{NoteTaken, one, "evt_4", "call_4", "s4", true})
			},
			wantAccount: func(a Account) bool { return a.Forged == 1 }, wantProblem: "it was refused"},
		"another body": {
			tamper:      func(b *Books) { b.Arrivals[0].Sum = "s2" },
			wantAccount: func(a Account) bool { return a.Forged == 1 && a.Lost == 1 }, wantProblem: "it has another body"},
		"another id": {
			tamper:      func(b *Books) { b.Arrivals[0].EventID = "evt_2" },
			wantAccount: func(a Account) bool { return a.Forged == 1 }, wantProblem: "it has another id"},
		"two ids of one event without an answer": {
			tamper:      func(b *Books) { b.Arrivals[5].EventID = "evt_5" },
			wantAccount: func(a Account) bool { return a.Forged == 1 }, wantProblem: "it has another id"},
		"an endpoint that did not ask": {
			tamper:      func(b *Books) { b.Arrivals[0].Path = "/other/one" },
			wantAccount: func(a Account) bool { return a.Forged == 1 }, wantProblem: "did not ask for it"},
		"a dead letter that was not posted": {
			tamper:      func(b *Books) { b.Dead[0].UID = "call_9" },
			wantAccount: func(a Account) bool { return a.Forged == 1 && a.Lost == 1 }, wantProblem: "was not posted so"},
		"a dead letter twice": {
			tamper:      func(b *Books) { b.Dead = append(b.Dead, b.Dead[0]) },
			wantAccount: func(a Account) bool { return a.Failed == 1 }, wantProblem: "dead letter twice"},
		"a dead letter that waits too": {
			tamper:      func(b *Books) { b.Waiting = append(b.Waiting, b.Dead[0]) },
			wantAccount: func(a Account) bool { return a.Waiting == 1 }, wantProblem: "a second time"},
		"a delivery waits": {
			tamper: func(b *Books) {
				b.Waiting, b.Dead = b.Dead[:1], b.Dead[1:]
			},
			wantAccount: func(a Account) bool { return a.Waiting == 1 && a.Lost == 0 }, wantProblem: "1 deliveries still wait"},
		"an event waits without deliveries": {
			tamper:      func(b *Books) { b.Unmatched = 1 },
			wantAccount: func(a Account) bool { return a.Lost == 0 }, wantProblem: "1 events still have no deliveries"},
		"a counter of successes is off by one": {
			tamper:      func(b *Books) { b.Counts[one] = Count{Succeeded: 4} },
			wantAccount: func(a Account) bool { return a.Lost == 0 }, wantProblem: "the status of /team/one says"},
		"a counter of failures is off by one": {
			tamper:      func(b *Books) { b.Counts[two] = Count{Succeeded: 2} },
			wantAccount: func(a Account) bool { return a.Lost == 0 }, wantProblem: "the status of /team/two says"},
		"a status says that one is lost": {
			tamper:      func(b *Books) { b.Counts[one] = Count{Succeeded: 3, Lost: 1} },
			wantAccount: func(a Account) bool { return a.Lost == 0 }, wantProblem: "the status of /team/one says"},
		"a last event is not accepted": {
			tamper:      func(b *Books) { b.Postings[3].Last = true },
			wantAccount: func(a Account) bool { return a.Refused == 1 }, wantProblem: "when all was mended, and is refused"},
		"a last event has an old signature": {
			tamper:      func(b *Books) { b.Postings[1].Last = true },
			wantAccount: func(a Account) bool { return a.Lost == 0 }, wantProblem: "a key that had been replaced"},
		"two events have one name": {
			tamper:      func(b *Books) { b.Postings[3].UID = "call_3" },
			wantAccount: func(a Account) bool { return a.Events == 4 }, wantProblem: "two events have one name"},
	} {
		t.Run(name, func(t *testing.T) {
			b := books()
			tc.tamper(&b)
			account, problems := Settle(b)
			if !tc.wantAccount(account) {
				t.Errorf("the account is %+v", account)
			}
			if all := strings.Join(problems, "\n"); tc.wantProblem == "" && all != "" || !strings.Contains(all, tc.wantProblem) {
				t.Errorf("the problems are %q, want one with %q", all, tc.wantProblem)
			}
		})
	}
}

func TestManyProblemsAreBounded(t *testing.T) {
	b := books()
	b.Arrivals = nil
	for range 100 {
		b.Arrivals = append(b.Arrivals, Arrival{NoteTaken, one, "evt_9", "call_9", "s9", true})
	}
	account, problems := Settle(b)
	if account.Forged != 100 || len(problems) != maxProblems+1 || !strings.HasPrefix(problems[maxProblems], "and ") {
		t.Errorf("%d forged, problems %q", account.Forged, problems)
	}
}
