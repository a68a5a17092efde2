// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The bounds of a payload.
const (
	MaxPayloadBytes = 256 << 10
	// MaxDepth is how deep objects and arrays nest, the outermost object included.
	MaxDepth = 32
	// MaxCallIDBytes bounds call.id and call.agent_id, which end up in Kubernetes objects.
	MaxCallIDBytes = 128
)

// FieldError says which rule a payload breaks. It never holds a value of the payload, nor a name of its own.
type FieldError struct {
	// Field is event, timestamp, call, call.id or call.agent_id; empty when the payload as a whole is wrong.
	Field string
	Rule  string
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return "payload " + e.Rule
	}
	return e.Field + " " + e.Rule
}

// Parse reads the envelope of a posted payload. The event keeps the given bytes as they are: the caller passes them on
// and changes them no more. It has no ID yet. Errors are *FieldError.
func Parse(namespace string, payload []byte, accepted time.Time) (*Event, error) {
	if len(payload) > MaxPayloadBytes {
		return nil, &FieldError{Rule: fmt.Sprintf("must be at most %d bytes", MaxPayloadBytes)}
	}
	if depthOf(payload) > MaxDepth {
		return nil, &FieldError{Rule: fmt.Sprintf("must nest at most %d deep", MaxDepth)}
	}
	v, err := readEnvelope(payload)
	if err != nil {
		return nil, syntaxError(payload, err)
	}
	e := &Event{Namespace: namespace, Payload: payload, Accepted: accepted}
	if err := v.check(e); err != nil {
		return nil, err
	}
	e.SHA256 = sha256.Sum256(payload)
	return e, nil
}

// member is what an envelope holds under one name. Kind is 0 when there is no such member.
type member struct {
	kind jsontext.Kind
	text string // of a string
}

func (m member) absent() bool { return m.kind == 0 || m.kind == 'n' }

type envelope struct{ event, timestamp, call, callID, agentID member }

var errNoObject = errors.New("no object")

// reader is a decoder with the buffer that it reads from, so that neither is made anew for each event.
type reader struct {
	buffer  bytes.Buffer
	decoder jsontext.Decoder
}

var readers = sync.Pool{New: func() any { return new(reader) }}

func readEnvelope(payload []byte) (v envelope, err error) {
	r := readers.Get().(*reader)
	defer func() {
		// What is pooled must not keep the payload alive.
		r.buffer = bytes.Buffer{}
		r.decoder.Reset(&r.buffer)
		readers.Put(r)
	}()
	r.buffer = *bytes.NewBuffer(payload)
	r.decoder.Reset(&r.buffer)
	d := &r.decoder
	if d.PeekKind() != '{' {
		if err := d.SkipValue(); err != nil {
			return v, err
		}
		return v, errNoObject
	}
	err = readObject(d, func(name string) (err error) {
		switch name {
		case "event":
			v.event, err = readMember(d)
		case "timestamp":
			v.timestamp, err = readMember(d)
		case "call":
			err = v.readCall(d)
		default:
			err = d.SkipValue()
		}
		return err
	})
	if err != nil {
		return v, err
	}
	// Nothing but white space may follow.
	if _, err := d.ReadToken(); err == nil {
		return v, errors.New("more than one value")
	} else if !errors.Is(err, io.EOF) {
		return v, err
	}
	return v, nil
}

func (v *envelope) readCall(d *jsontext.Decoder) (err error) {
	if d.PeekKind() != '{' {
		v.call, err = readMember(d)
		return err
	}
	v.call.kind = '{'
	return readObject(d, func(name string) (err error) {
		switch name {
		case "id":
			v.callID, err = readMember(d)
		case "agent_id":
			v.agentID, err = readMember(d)
		default:
			err = d.SkipValue()
		}
		return err
	})
}

// readObject reads the object that is next and calls value at each value.
func readObject(d *jsontext.Decoder, value func(name string) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := value(name.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func readMember(d *jsontext.Decoder) (m member, err error) {
	if m.kind = d.PeekKind(); m.kind != '"' {
		return m, d.SkipValue()
	}
	t, err := d.ReadToken()
	if err != nil {
		return m, err
	}
	m.text = t.String()
	return m, nil
}

// check fills e from the envelope, or names the first rule that is broken.
func (v *envelope) check(e *Event) (err error) {
	if e.Type, err = v.event.eventType(); err != nil {
		return err
	}
	if e.Time, err = v.timestamp.time(); err != nil {
		return err
	}
	if !v.call.absent() && v.call.kind != '{' {
		return &FieldError{"call", "must be an object"}
	}
	if e.CallID, err = v.callID.identifier("call.id"); err != nil {
		return err
	}
	if e.CallID == "" && e.Type.DescribesCall() {
		return &FieldError{"call.id", "is required: a string that is not empty"}
	}
	e.AgentID, err = v.agentID.identifier("call.agent_id")
	return err
}

func (m member) eventType() (Type, error) {
	t := Type(m.text)
	if m.kind != '"' || !t.Known() {
		return "", &FieldError{"event", "must be one of call.completed, booking.created, contact.created, or custom. and a " +
			"name of a-z, 0-9, '-', '_', '.'"}
	}
	return t, nil
}

// time is strict about RFC 3339. The years are those that Kubernetes and protobuf can hold, without the zero time.
func (m member) time() (t time.Time, err error) {
	t, err = time.Parse(time.RFC3339, m.text)
	t = t.UTC()
	if m.kind != '"' || err != nil || !strictRFC3339(m.text) || t.Year() < 1970 || t.Year() > 9999 {
		return t, &FieldError{"timestamp", "must be an RFC 3339 time of the years 1970 to 9999, as in 2026-02-15T14:32:00Z"}
	}
	return t, nil
}

// strictRFC3339 refuses what time.Parse lets pass: an hour of one digit, a comma, an offset of no clock.
func strictRFC3339(s string) bool {
	const seconds = len("2006-01-02T15:04:05")
	if s[len("2006-01-02T15")] != ':' || s[seconds] == ',' {
		return false
	}
	if s[len(s)-1] == 'Z' {
		return true
	}
	offset := s[len(s)-len("07:00"):]
	return offset[:2] < "24" && offset[3:] < "60"
}

func (m member) identifier(field string) (string, error) {
	if m.absent() {
		return "", nil
	}
	if m.kind != '"' {
		return "", &FieldError{field, "must be a string"}
	}
	if len(m.text) > MaxCallIDBytes {
		return "", &FieldError{field, fmt.Sprintf("must be at most %d bytes", MaxCallIDBytes)}
	}
	for _, r := range m.text {
		if unicode.IsControl(r) {
			return "", &FieldError{field, "must not contain control characters"}
		}
	}
	return m.text, nil
}

// depthOf bounds the depth before the decoder descends. It need not be exact for what is no JSON.
func depthOf(payload []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(payload); i++ {
		switch c := payload[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}', c == ']':
			depth--
		}
	}
	return deepest
}

// syntaxError turns the decoder's error, which may hold a name of the payload, into one that does not.
func syntaxError(payload []byte, err error) error {
	var at *jsontext.SyntacticError
	switch {
	case errors.Is(err, errNoObject), len(bytes.TrimSpace(payload)) == 0:
		return &FieldError{Rule: "must be a JSON object"}
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &FieldError{Rule: "must not have two members of one name in an object"}
	case !utf8.Valid(payload):
		return &FieldError{Rule: "must be valid UTF-8"}
	case errors.As(err, &at):
		return &FieldError{Rule: fmt.Sprintf("must be JSON: it is not at byte %d", at.ByteOffset)}
	}
	return &FieldError{Rule: "must be one JSON object and nothing after it"}
}
