module codexbench/gowaku

go 1.25

require github.com/waku-org/go-waku v0.10.1

// go-waku's own: a replacement counts in the main module alone.
replace github.com/libp2p/go-libp2p-pubsub v0.13.1 => github.com/waku-org/go-libp2p-pubsub v0.13.1-gowaku
