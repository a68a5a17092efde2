// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// classify is the pure decision what an answer comes to, with a message for people.
func classify(p *endpoint.Endpoint, code int, retryAfter time.Duration) (delivery.Outcome, string) {
	answered := "answered " + strconv.Itoa(code)
	switch {
	case p.Succeeds(code):
		return delivery.OutcomeDelivered, ""
	case code == http.StatusGone:
		return delivery.OutcomeGone, answered + ": the receiver wants no more deliveries"
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && retryAfter > 0:
		return delivery.OutcomeThrottled, answered + ": the receiver asks to slow down"
	case code >= 300 && code <= 399:
		return delivery.OutcomeRejected, answered + ": redirects are not followed; set the final URL"
	case code >= 200 && code <= 299:
		return delivery.OutcomeRejected, answered + ", which successCodes does not list: it has " + strings.Join(p.SuccessCodes, ", ")
	}
	return delivery.OutcomeRejected, answered
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110, section 10.2.3). What it cannot read, or what
// lies in the past, is no wish.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		// Compared before it is multiplied, which could overflow.
		return time.Duration(min(max(seconds, 0), int64(delivery.MaxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), delivery.MaxRetryAfter)
}
