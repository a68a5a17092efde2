// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// FuzzRetryAfter: whatever a receiver asks for, the wait is within bounds.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "7", "-1", "9223372036854775807", "99999999999999999999", "1e9", " 7", "7.5",
		"Fri, 31 Dec 1999 23:59:59 GMT", "Friday, 31-Dec-99 23:59:59 GMT", "Fri Dec 31 23:59:59 9999", "Sun, 06 Nov 0000 08:49:37 GMT"} {
		f.Add(s, int64(1_700_000_000))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		const year9999 = 253402300799
		if now < 0 || now > year9999 {
			return // no clock of ours
		}
		at := time.Unix(now, 0)
		wait := retryAfter(value, at)
		if wait < 0 || wait > delivery.MaxRetryAfter {
			t.Errorf("%q asks for %s", value, wait)
		}
		if strings.Trim(value, "0") == "" && wait != 0 {
			t.Errorf("%q asks for %s", value, wait)
		}
	})
}

// FuzzClassify: each answer comes to one outcome of the closed set, Delivered for a success code alone, with a message
// that is fit for a record.
func FuzzClassify(f *testing.F) {
	f.Add("200", 200, int64(0))
	f.Add("2xx", 992, int64(0))
	f.Add("2xx", 503, int64(time.Second))
	f.Add("204", 410, int64(0))
	f.Fuzz(func(t *testing.T, listed string, code int, wait int64) {
		p := &endpoint.Endpoint{SuccessCodes: []string{listed}}
		outcome, message := classify(p, code, time.Duration(wait))
		if !slices.Contains(delivery.Outcomes(), outcome) {
			t.Errorf("%d came to %q", code, outcome)
		}
		if (outcome == delivery.OutcomeDelivered) != p.Succeeds(code) || (message == "") != p.Succeeds(code) {
			t.Errorf("%d with %q listed came to %s, %q", code, listed, outcome, message)
		}
		if len(listed) <= 3 && len(message) > delivery.MaxMessageBytes {
			t.Errorf("the message has %d bytes", len(message))
		}
	})
}
