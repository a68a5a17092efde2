// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version says which build this is.
package version

import "runtime/debug"

// Version is set by the linker; a build without it takes the module's.
var Version = ""

// String is the version for logs, User-Agent and the control stream.
func String() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
