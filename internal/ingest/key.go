// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"net/http"
	"strings"
)

const keyHeader = "Idempotency-Key"

// keyOf returns the idempotency key, empty when there is none. It takes the key as it is, or as the quoted string of
// RFC 8941 that the draft of the header asks for; both forms of one key are the same key.
func keyOf(h http.Header) (string, *problem) {
	values := h.Values(keyHeader)
	if len(values) == 0 {
		return "", nil
	}
	key, ok := values[0], len(values) == 1
	if ok && strings.HasPrefix(key, `"`) {
		key, ok = unquote(key)
	}
	if !ok || len(key) == 0 || len(key) > MaxKeyBytes || !visible(key) {
		p := newProblem(kindKey, fmt.Sprintf("must be one value of 1 to %d visible ASCII characters, as it is or as a quoted string", MaxKeyBytes))
		p.field = keyHeader
		return "", p
	}
	return key, nil
}

// unquote reads a string of RFC 8941, in which a backslash stands before a quote or a backslash only.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			i++
			if i == len(s) || (s[i] != '"' && s[i] != '\\') {
				return "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
