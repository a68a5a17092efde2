// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A body tells its number and its intended time at fixed places, so that they are written without making it anew and
// read without parsing it:
//
//	{"bench":{"n":"0000000042","at":"1764000000000000000"},"call":{"agent_id":"agent_0007","id":…
const (
	bodyForm = `{"bench":{"n":"%010d","at":"%019d"},"call":{"agent_id":"agent_%04d","id":"call_bench","direction":"inbound",` +
		`"duration_seconds":184,"status":"completed"},"event":"call.completed","timestamp":"%s",` +
		`"contact":{"name":"Erika Mustermann","phone":"+4930123456","email":"erika@example.com","first_time":true},` +
		`"intent":"appointment_booking","data_collected":{"service":"check-up","preferred_day":"Tuesday","insurance":"public"},` +
		`"actions":[{"type":"booking","result":"created"},{"type":"sms","result":"sent"}],"summary":"%s"}`
	numberAt, numberEnd = 15, 25
	timeAt, timeEnd     = 33, 52
	groupAt, groupEnd   = 81, 85
)

// firstWarm is the number of the first event that is not measured.
const firstWarm = 9_000_000_000

// summaryAt is where the summary begins; it ends with the body.
var summaryAt = len(fmt.Sprintf(bodyForm, 0, 0, 0, bodyTime, "")) - len(bodyEnd)

const (
	bodyTime = "2026-02-15T14:32:01Z"
	bodyEnd  = `"}`
)

// newBody makes a body of that size. It is an event of the page's shape.
func newBody(size int) []byte {
	summary := size - summaryAt - len(bodyEnd)
	if summary < 0 || summary > proseBytes/2 {
		panic(fmt.Sprintf("no body has %d bytes", size)) // a case that cannot be
	}
	return fmt.Appendf(nil, bodyForm, 0, 0, 0, bodyTime, strings.Repeat(" ", summary))
}

// proseBytes is the length of the text that summaries are parts of.
const proseBytes = 256 * kiB

// prose is what callers say: letters at random, so that a queue which compresses what it keeps has no advantage of bodies
// that are all the same. It is the same in each process.
var prose = sync.OnceValue(func() []byte {
	const letters = "etaoinshrdlucmfwypvbgkjqxz      "
	r := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, proseBytes)
	for i := range text {
		text[i] = letters[r.IntN(len(letters))]
	}
	return text
})

// stamp writes the number, the time, the group and the summary of that number into a body.
func stamp(body []byte, number int64, at time.Time, group int) {
	writeDigits(body[numberAt:numberEnd], number)
	writeDigits(body[timeAt:timeEnd], at.UnixNano())
	writeDigits(body[groupAt:groupEnd], int64(group))
	summary := body[summaryAt : len(body)-len(bodyEnd)]
	copy(summary, prose()[number*4099%(proseBytes/2):])
}

func writeDigits(place []byte, n int64) {
	for i := len(place) - 1; i >= 0; i-- {
		place[i] = byte('0' + n%10)
		n /= 10
	}
}

// readStamp reads what stamp has written.
func readStamp(body []byte) (number int64, at time.Time, ok bool) {
	if len(body) < groupEnd {
		return 0, time.Time{}, false
	}
	number, err := strconv.ParseInt(string(body[numberAt:numberEnd]), 10, 64)
	if err != nil {
		return 0, time.Time{}, false
	}
	nanoseconds, err := strconv.ParseInt(string(body[timeAt:timeEnd]), 10, 64)
	return number, time.Unix(0, nanoseconds), err == nil
}

// agentOf is whose calls the endpoints of a group ask for. All of them ask for the same type of event, as those of a
// product's page with three types do.
func agentOf(group int) string { return fmt.Sprintf("agent_%04d", group) }

// pathOf is the path of an endpoint's URL.
func pathOf(number int) string { return fmt.Sprintf("/e/%05d", number) }

// numberOf reads it.
func numberOf(path string) (number int, ok bool) {
	digits, found := strings.CutPrefix(path, "/e/")
	number, err := strconv.Atoi(digits)
	return number, found && err == nil && number >= 0
}
