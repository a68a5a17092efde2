// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
)

// FuzzParseKey: a key is of the length that the specification allows and is read again as it was formatted; text that is
// none is told of by the rule alone.
func FuzzParseKey(f *testing.F) {
	f.Add("whsec_b2xkLWtleS1vbGQta2V5LW9sZC1rZXktb2xk")
	f.Add(" whsec_b2xkLWtleS1vbGQta2V5LW9sZC1rZXktb2xk\n")
	f.Add("whsec_" + strings.Repeat("AAAA", 22))
	f.Add("whsec_")
	f.Add("whsec_b2xk\nLWtleS1vbGQta2V5LW9sZC1rZXktb2xk")
	f.Add("whpk_b2xkLWtleS1vbGQta2V5LW9sZC1rZXktb2xk")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		if err != nil {
			if !errors.Is(err, ErrKeyForm) || err.Error() != ErrKeyForm.Error() {
				t.Errorf("the error is %v", err)
			}
			return
		}
		if len(key) < MinKeyBytes || len(key) > MaxKeyBytes {
			t.Errorf("a key of %d bytes was taken", len(key))
		}
		again, err := ParseKey(FormatKey(key))
		if err != nil || !bytes.Equal(key, again) {
			t.Errorf("%x was read again as %x, %v", key, again, err)
		}
	})
}

// FuzzSignature: there is a signature for each key, whatever the header's parts hold, and nothing but signatures.
func FuzzSignature(f *testing.F) {
	f.Add([]byte("key"), []byte("other"), "evt_1", "1700000000", []byte("{}"))
	f.Add([]byte{}, []byte{0}, "", "", []byte{})
	f.Fuzz(func(t *testing.T, key, other []byte, id, timestamp string, payload []byte) {
		text := Signature([][]byte{key, other}, id, timestamp, payload)
		parts := strings.Split(text, " ")
		if len(parts) != 2 || !strings.HasPrefix(parts[0], version) || !strings.HasPrefix(parts[1], version) {
			t.Fatalf("two keys make %q", text)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsControl(r) }) {
			t.Errorf("%q cannot be a header's value", text)
		}
		if parts[0] != Signature([][]byte{key}, id, timestamp, payload) {
			t.Error("a second key changes the first one's signature")
		}
		if len(payload) > 0 && parts[0] == Signature([][]byte{key}, id, timestamp, payload[1:]) {
			t.Error("a payload and a part of it have one signature")
		}
	})
}
