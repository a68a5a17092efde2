// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"fmt"
	"testing"
)

func BenchmarkSignature(b *testing.B) {
	for _, bc := range []struct{ keys, bytes int }{{1, 1 << 10}, {2, 1 << 10}, {1, 32 << 10}} {
		b.Run(fmt.Sprintf("keys=%d/bytes=%d", bc.keys, bc.bytes), func(b *testing.B) {
			keys := make([][]byte, bc.keys)
			for i := range keys {
				keys[i] = NewKey()
			}
			payload := bytes.Repeat([]byte("x"), bc.bytes)
			b.SetBytes(int64(bc.bytes))
			b.ReportAllocs()
			for b.Loop() {
				Signature(keys, vectorID, "1614265330", payload)
			}
		})
	}
}
