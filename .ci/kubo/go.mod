module codexbench/kubo

go 1.25

require (
	// The version that Kubo pins refuses Go 1.26.
	github.com/cockroachdb/swiss v0.0.0-20251224182025-b0f6560f979b
	github.com/ipfs/kubo v0.38.0
)
