// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sign makes the signature headers of Standard Webhooks 1.0: https://www.standardwebhooks.com
package sign

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// The header names of the specification.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// The specification's limits for a symmetric key, in bytes, and the length of the keys made here.
const (
	MinKeyBytes = 24
	MaxKeyBytes = 64
	newKeyBytes = 32
)

const (
	keyPrefix = "whsec_"
	version   = "v1,"
)

// ErrKeyForm is the error for text that is no signing key; it says the rule and nothing of the text.
var ErrKeyForm = errors.New("a signing key is whsec_ followed by the base64 of 24 to 64 random bytes")

// ParseKey reads whsec_<base64>. White space around it is ignored, since kubectl create secret --from-file keeps it.
func ParseKey(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), keyPrefix)
	if !ok {
		return nil, ErrKeyForm
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) < MinKeyBytes || len(key) > MaxKeyBytes {
		return nil, ErrKeyForm
	}
	return key, nil
}

// FormatKey is the inverse of ParseKey.
func FormatKey(key []byte) string { return keyPrefix + base64.StdEncoding.EncodeToString(key) }

// NewKey makes a random signing key.
func NewKey() []byte {
	key := make([]byte, newKeyBytes)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	return key
}

// Timestamp is the value of the webhook-timestamp header: seconds since the epoch.
func Timestamp(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

// Signature is the value of the webhook-signature header: a signature for each key, separated by spaces. It covers the
// id, the timestamp and the exact bytes of the payload, so a captured request cannot be replayed later.
func Signature(keys [][]byte, id, timestamp string, payload []byte) string {
	var b strings.Builder
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(' ')
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id))
		mac.Write([]byte{'.'})
		mac.Write([]byte(timestamp))
		mac.Write([]byte{'.'})
		mac.Write(payload)
		b.WriteString(version)
		b.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}
