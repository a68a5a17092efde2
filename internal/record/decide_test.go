// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// shelfOf makes records from words: D, F, R for the outcome and the minutes since the epoch when it ended, or began.
func shelfOf(words string) (all []item) {
	for word := range strings.FieldsSeq(words) {
		var minutes int
		if _, err := fmt.Sscanf(word[1:], "%d", &minutes); err != nil {
			panic(err)
		}
		at := epoch.Add(time.Duration(minutes) * time.Minute)
		i := item{key: types.NamespacedName{Namespace: testNamespace, Name: word}, endpoint: "e", created: at}
		switch word[0] {
		case 'D':
			i.outcome, i.finished = v1alpha1.DeliveryDelivered, at
		case 'F':
			i.outcome, i.finished = v1alpha1.DeliveryFailed, at
		default:
			i.outcome = v1alpha1.DeliveryRetrying
		}
		all = append(all, i)
	}
	return all
}

func wordsOf(all []verdict) string {
	var words []string
	for _, v := range all {
		words = append(words, v.key.Name+":"+v.reason)
	}
	return strings.Join(words, " ")
}

func TestWhatAnEndpointKeeps(t *testing.T) {
	now := epoch.Add(100 * time.Minute)
	cases := map[string]struct {
		records  string
		history  history
		want     string
		wantNext time.Duration // after now; 0 for none
	}{
		"nothing":            {history: history{1, 1, time.Hour}},
		"within the history": {records: "D90 F80", history: history{1, 1, time.Hour}, wantNext: 40 * time.Minute},
		"the oldest of each kind goes": {records: "D92 D90 D91 F81 F80", history: history{1, 1, time.Hour},
			want: "F80:history D90:history D91:history", wantNext: 41 * time.Minute},
		"none are kept":  {records: "D90 F80", history: history{0, 0, time.Hour}, want: "F80:history D90:history"},
		"the time is up": {records: "D40 D39 D41", history: history{9, 9, time.Hour}, want: "D39:ttl D40:ttl", wantNext: time.Minute},
		"active ones stay": {records: "R1 R2 D90", history: history{0, 0, time.Hour}, want: "D90:history",
			wantNext: abandonedAfter - 99*time.Minute},
		"but not for ever": {records: "R-11420 R90", history: history{0, 0, time.Hour}, want: "R-11420:ttl",
			wantNext: abandonedAfter - 10*time.Minute},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			gone, next := byHistory(now, shelfOf(tc.records), tc.history)
			if got := wordsOf(gone); got != tc.want {
				t.Errorf("gone are %q, want %q", got, tc.want)
			}
			if tc.wantNext == 0 && !next.IsZero() || tc.wantNext != 0 && !next.Equal(now.Add(tc.wantNext)) {
				t.Errorf("next look is at %v, want %v after %v", next, tc.wantNext, now)
			}
		})
	}
}

func TestWhatALimitLeaves(t *testing.T) {
	cases := map[string]struct {
		records string
		limit   int
		want    string
	}{
		"at the limit":                     {"D1 D2 F3", 3, ""},
		"delivered before failed":          {"F1 D3 D2 F4", 2, "D2:cluster D3:cluster"},
		"then the oldest failed":           {"F5 D3 F4", 1, "D3:cluster F4:cluster"},
		"never an active one":              {"R1 R2 R3 D4", 1, "D4:cluster"},
		"nothing to delete but it is over": {"R1 R2 R3", 1, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := wordsOf(byLimit(shelfOf(tc.records), tc.limit, deletedCluster)); got != tc.want {
				t.Errorf("gone are %q, want %q", got, tc.want)
			}
		})
	}
}

func TestALimitIsUndershotSoThatItIsNotJudgedEachTime(t *testing.T) {
	var words strings.Builder
	for n := range 1001 {
		fmt.Fprintf(&words, "D%d ", n)
	}
	if gone := byLimit(shelfOf(words.String()), 1000, deletedNamespace); len(gone) != 11 {
		t.Errorf("%d go, want 1 and a hundredth of the limit", len(gone))
	}
}

func TestTheShelfCountsWhatIsThere(t *testing.T) {
	s := newShelf()
	for _, i := range shelfOf("R1 R2 D3") {
		s.put(i)
		s.put(i)
	}
	if s.allActive != 2 || s.active[testNamespace] != 2 || len(s.byEndpoint["e"]) != 3 {
		t.Errorf("shelf is %+v", s)
	}
	done := shelfOf("D1")[0]
	done.key.Name = "R1"
	s.put(done)
	s.doom(shelfOf("D3")[0])
	s.put(shelfOf("D3")[0]) // the informer is behind
	if s.allActive != 1 || len(s.items) != 2 {
		t.Errorf("shelf is %+v", s)
	}
	for _, name := range []string{"R1", "R2", "D3"} {
		s.gone(types.NamespacedName{Namespace: testNamespace, Name: name})
	}
	if len(s.items)+len(s.byEndpoint)+len(s.byNamespace)+len(s.active)+s.allActive+len(s.doomed) != 0 {
		t.Errorf("shelf is %+v, want it empty", s)
	}
}
