extension Duration {
    /// Whole milliseconds, rounded towards zero. Durations of more than about 36 million years are cut to that.
    public var milliseconds: Int64 {
        let bound: Int64 = 1 << 50
        return min(max(components.seconds, -bound), bound) * 1000 + components.attoseconds / 1_000_000_000_000_000
    }

    /// Seconds with their fraction, the form for metrics.
    public var inSeconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}
