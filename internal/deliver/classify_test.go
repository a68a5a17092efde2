// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func TestClassify(t *testing.T) {
	for name, tc := range map[string]struct {
		success     []string
		code        int
		retryAfter  time.Duration
		want        delivery.Outcome
		wantMessage string
	}{
		"200":                         {code: 200, want: delivery.OutcomeDelivered},
		"204 among 2xx":               {success: []string{"2xx"}, code: 204, want: delivery.OutcomeDelivered},
		"204 as one of two":           {success: []string{"200", "204"}, code: 204, want: delivery.OutcomeDelivered},
		"204 when only 200 is one":    {code: 204, want: delivery.OutcomeRejected, wantMessage: "answered 204, which successCodes does not list: it has 200"},
		"201 when two are":            {success: []string{"200", "204"}, code: 201, want: delivery.OutcomeRejected, wantMessage: "200, 204"},
		"redirect":                    {code: 302, want: delivery.OutcomeRejected, wantMessage: "answered 302: redirects are not followed"},
		"not modified":                {code: 304, want: delivery.OutcomeRejected, wantMessage: "redirects"},
		"not found":                   {code: 404, want: delivery.OutcomeRejected, wantMessage: "answered 404"},
		"gone":                        {code: 410, want: delivery.OutcomeGone, wantMessage: "answered 410"},
		"too many":                    {code: 429, want: delivery.OutcomeThrottled, wantMessage: "answered 429"},
		"too many, with a time":       {code: 429, retryAfter: time.Second, want: delivery.OutcomeThrottled},
		"server error":                {code: 500, want: delivery.OutcomeRejected, wantMessage: "answered 500"},
		"server error with a time":    {code: 500, retryAfter: time.Second, want: delivery.OutcomeRejected},
		"unavailable":                 {code: 503, want: delivery.OutcomeRejected, wantMessage: "answered 503"},
		"unavailable, with a time":    {code: 503, retryAfter: time.Second, want: delivery.OutcomeThrottled},
		"switching protocols":         {code: 101, want: delivery.OutcomeRejected},
		"a code beyond the registry":  {code: 999, want: delivery.OutcomeRejected},
		"410 is no success by itself": {success: []string{"2xx"}, code: 410, want: delivery.OutcomeGone},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.success == nil {
				tc.success = []string{"200"}
			}
			got, message := classify(&endpoint.Endpoint{SuccessCodes: tc.success}, tc.code, tc.retryAfter)
			if got != tc.want || !strings.Contains(message, tc.wantMessage) {
				t.Errorf("%v %q, want %v %q", got, message, tc.want, tc.wantMessage)
			}
			if (got == delivery.OutcomeDelivered) != (message == "") {
				t.Errorf("%v has the message %q", got, message)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		value string
		want  time.Duration
	}{
		"none":                  {},
		"seconds":               {"120", 2 * time.Minute},
		"zero":                  {"0", 0},
		"negative":              {"-5", 0},
		"beyond the cap":        {"86400", delivery.MaxRetryAfter},
		"that would overflow":   {"9223372036854775807", delivery.MaxRetryAfter},
		"too long for a number": {"99999999999999999999", 0},
		"fraction":              {"1.5", 0},
		"date":                  {now.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		"date in the past":      {now.Add(-time.Hour).Format(http.TimeFormat), 0},
		"date far ahead":        {now.AddDate(1, 0, 0).Format(http.TimeFormat), delivery.MaxRetryAfter},
		"old form of date":      {now.Add(time.Minute).Format(time.ANSIC), time.Minute},
		"words":                 {"soon", 0},
	} {
		if got := retryAfter(tc.value, now); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
