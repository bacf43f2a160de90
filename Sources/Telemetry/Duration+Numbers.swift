extension Duration {
    /// Whole milliseconds, rounded towards zero; of more than 36 million years, those.
    public var milliseconds: Int64 {
        let bound: Int64 = 1 << 50
        return min(max(components.seconds, -bound), bound) * 1000 + components.attoseconds / 1_000_000_000_000_000
    }

    /// Seconds with their fraction, as metrics want them.
    public var inSeconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}
