// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The vector that the reference libraries of the specification test themselves with.
const (
	vectorKey       = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime      = 1614265330
	vectorPayload   = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestSignatureOfSpecificationsVector(t *testing.T) {
	key, err := ParseKey(vectorKey)
	if err != nil {
		t.Fatal(err)
	}
	got := Signature([][]byte{key}, vectorID, Timestamp(time.Unix(vectorTime, 0)), []byte(vectorPayload))
	if got != vectorSignature {
		t.Errorf("signature is %s, want %s", got, vectorSignature)
	}
}

func TestSignatureIsAcceptedByReferenceLibrary(t *testing.T) {
	current, old := NewKey(), NewKey()
	payload := []byte(`{"event":"call.completed","summary":"née 😀"}`)
	for name, tc := range map[string]struct {
		keys      [][]byte
		verify    []byte
		change    func(h http.Header, payload []byte)
		wantValid bool
	}{
		"one key":                     {keys: [][]byte{current}, verify: current, wantValid: true},
		"two keys, by the first":      {keys: [][]byte{current, old}, verify: current, wantValid: true},
		"two keys, by the second":     {keys: [][]byte{current, old}, verify: old, wantValid: true},
		"another key":                 {keys: [][]byte{current}, verify: old},
		"one byte of payload changed": {keys: [][]byte{current}, verify: current, change: func(_ http.Header, p []byte) { p[3] ^= 1 }},
		"timestamp changed": {keys: [][]byte{current}, verify: current, change: func(h http.Header, _ []byte) {
			h.Set(HeaderTimestamp, Timestamp(time.Now().Add(-time.Second)))
		}},
		"id changed": {keys: [][]byte{current}, verify: current, change: func(h http.Header, _ []byte) { h.Set(HeaderID, "evt_1") }},
		"replayed after ten minutes": {keys: [][]byte{current}, verify: current, change: func(h http.Header, p []byte) {
			signed([][]byte{current}, time.Now().Add(-10*time.Minute), p, h)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			body := bytes.Clone(payload)
			header := signed(tc.keys, time.Now(), body, http.Header{})
			if tc.change != nil {
				tc.change(header, body)
			}
			verifier, err := standardwebhooks.NewWebhook(FormatKey(tc.verify))
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.Verify(body, header); (err == nil) != tc.wantValid {
				t.Errorf("verification says %v, want valid: %v", err, tc.wantValid)
			}
		})
	}
}

// signed fills the headers in.
func signed(keys [][]byte, at time.Time, payload []byte, h http.Header) http.Header {
	const id = "evt_0123456789abcdef0123456789abcdef"
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, Timestamp(at))
	h.Set(HeaderSignature, Signature(keys, id, Timestamp(at), payload))
	return h
}

func TestSignatureHasOnePartPerKey(t *testing.T) {
	keys := [][]byte{NewKey(), NewKey()}
	parts := strings.Split(Signature(keys, "evt_1", "1", nil), " ")
	if len(parts) != 2 || parts[0] == parts[1] {
		t.Fatalf("got %d parts, want 2 that differ", len(parts))
	}
	for _, part := range parts {
		if !strings.HasPrefix(part, "v1,") {
			t.Errorf("%s does not begin with its version", part)
		}
	}
	if got := Signature(nil, "evt_1", "1", nil); got != "" {
		t.Errorf("without a key the signature is %q, want none", got)
	}
}

func TestParseKey(t *testing.T) {
	encoded := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, n)) }
	for name, tc := range map[string]struct {
		text    string
		wantErr bool
	}{
		"shortest":                     {text: "whsec_" + encoded(24)},
		"longest":                      {text: "whsec_" + encoded(64)},
		"with the newline of a file":   {text: "whsec_" + encoded(32) + "\n"},
		"too short":                    {text: "whsec_" + encoded(23), wantErr: true},
		"too long":                     {text: "whsec_" + encoded(65), wantErr: true},
		"without the prefix":           {text: encoded(32), wantErr: true},
		"no base64":                    {text: "whsec_" + strings.Repeat("*", 44), wantErr: true},
		"a key of the asymmetric kind": {text: "whsk_" + encoded(32), wantErr: true},
		"empty":                        {wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ParseKey(tc.text)
			if (err != nil) != tc.wantErr {
				t.Fatalf("error is %v, want one: %v", err, tc.wantErr)
			}
			if err != nil {
				if tc.text != "" && strings.Contains(err.Error(), tc.text) {
					t.Error("the error quotes the key")
				}
				return
			}
			if FormatKey(key) != strings.TrimSpace(tc.text) {
				t.Error("the key does not survive a round trip")
			}
		})
	}
}

func TestNewKeysDiffer(t *testing.T) {
	a, b := NewKey(), NewKey()
	if bytes.Equal(a, b) || len(a) < MinKeyBytes {
		t.Errorf("keys of %d bytes, equal: %v", len(a), bytes.Equal(a, b))
	}
}
