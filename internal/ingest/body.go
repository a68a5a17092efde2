// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/garyclub/webhook-operator/internal/event"
)

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
)

// form is how a request carries events: one, or a batch.
type form struct {
	batch bool
	limit int64 // of the body
}

func formOf(h http.Header) (form, *problem) {
	for _, encoding := range h.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return form{}, newProblem(kindEncoding, "send the body as it is, without Content-Encoding")
		}
	}
	value := h.Get("Content-Type")
	if len(h.Values("Content-Type")) > 1 {
		value = "" // somebody on the way may have taken the other one
	}
	name, parameters, err := value, map[string]string(nil), error(nil)
	if value != jsonType && value != ndjsonType {
		name, parameters, err = mime.ParseMediaType(value)
	}
	for parameter, v := range parameters {
		if parameter != "charset" || !strings.EqualFold(v, "utf-8") {
			err = errors.New("parameter")
		}
	}
	switch {
	case err == nil && name == jsonType:
		return form{limit: event.MaxPayloadBytes}, nil
	case err == nil && name == ndjsonType:
		return form{batch: true, limit: MaxBatchBytes}, nil
	}
	return form{}, newProblem(kindContentType, "send one event as application/json, or many as application/x-ndjson, in UTF-8")
}

// firstRead is what a body takes of the memory before anything of it has come.
const firstRead = 4 << 10

// body is read into memory of its own, which the events keep, and takes from the budget as it comes: what is announced
// alone costs nothing.
type body struct {
	budget    *budget
	shares    *shares
	namespace string
	bytes     []byte
	taken     int64
}

// release gives back what it has taken.
func (b *body) release() {
	b.budget.give(b.taken)
	b.shares.give(b.namespace, b.taken)
}

func (b *body) read(f form, w http.ResponseWriter, r *http.Request) *problem {
	most := f.limit + 1 // the byte that is too much, or the end
	if r.ContentLength > f.limit {
		return newProblem(kindTooLarge, tooLarge(f.limit))
	} else if r.ContentLength >= 0 {
		most = r.ContentLength + 1
	}
	in := http.MaxBytesReader(w, r.Body, f.limit)
	for size := min(firstRead, most); ; size = min(2*size, most) {
		if refused := b.grow(size); refused != nil {
			return refused
		}
		for len(b.bytes) < cap(b.bytes) {
			n, err := in.Read(b.bytes[len(b.bytes):cap(b.bytes)])
			b.bytes = b.bytes[:len(b.bytes)+n]
			if err != nil {
				return f.ended(err)
			}
		}
	}
}

// grow makes room for size bytes, when the namespace's share and the budget have that much.
func (b *body) grow(size int64) *problem {
	if !b.shares.take(b.namespace, size-b.taken) {
		return newProblem(kindCrowd, "too many bytes of the namespace are under way: wait for answers")
	}
	if !b.budget.take(size - b.taken) {
		b.shares.give(b.namespace, size-b.taken)
		return newProblem(kindBusy, "too many bytes are under way")
	}
	b.taken = size
	grown := make([]byte, len(b.bytes), size)
	copy(grown, b.bytes)
	b.bytes = grown
	return nil
}

// ended says what the end of a body means; nil is a good one.
func (f form) ended(err error) *problem {
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &large):
		return newProblem(kindTooLarge, tooLarge(f.limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return newProblem(kindSlow, fmt.Sprintf("the body must come within %s", readTimeout))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return newProblem(kindBroken, "the body ended before its announced length")
	}
	return newProblem(kindBroken, "the body could not be read")
}

func tooLarge(limit int64) string { return fmt.Sprintf("must be at most %d bytes", limit) }

// split returns the payloads. A line ends with LF or CR LF; the last one may end with the body.
func (f form) split(body []byte) ([][]byte, *problem) {
	if !f.batch {
		return [][]byte{body}, nil
	}
	body = bytes.TrimSuffix(body, []byte("\n"))
	count := bytes.Count(body, []byte("\n")) + 1
	if count > MaxBatchEvents {
		return nil, newProblem(kindTooLarge, fmt.Sprintf("a batch must have at most %d lines", MaxBatchEvents))
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, newProblem(kindMalformed, "a batch must have at least one line")
	}
	lines := make([][]byte, 0, count)
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		// Without room behind it: nobody can append into the next event.
		line = bytes.TrimSuffix(line, []byte("\r"))
		lines = append(lines, slices.Clip(line))
	}
	return lines, nil
}

// at names the line that a problem of a batch is on.
func (f form) at(index int, p *problem) *problem {
	if f.batch {
		p.line = index + 1
	}
	return p
}

// key is the key of the event at the index. The separator cannot stand in a key, so no two are the same.
func (f form) key(key string, index int) string {
	if key == "" || !f.batch {
		return key
	}
	return key + "\x00" + strconv.Itoa(index)
}

// answer is the body of a 202.
func (f form) answer(all []Accepted) []byte {
	if !f.batch {
		return append(appendAccepted(nil, all[0]), '\n')
	}
	b := make([]byte, 0, 16+80*len(all))
	b = append(b, `{"events":[`...)
	for i, a := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendAccepted(b, a)
	}
	return append(b, "]}\n"...)
}

// appendAccepted writes an id as it is: it is made of letters, digits and an underscore.
func appendAccepted(b []byte, a Accepted) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, a.EventID...)
	b = append(b, `","deliveries":`...)
	if a.Deliveries < 0 {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, int64(a.Deliveries), 10)
	}
	return append(b, '}')
}
