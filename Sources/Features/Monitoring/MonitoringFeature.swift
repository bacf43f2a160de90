import Kernel

extension Feature {
    /// What subscribers rely on: whether they hear the changes that the systems announce.
    public static let monitoring = Feature(
        "monitoring", settings: RealtimeProbe.keys, sections: [RealtimeSection.section.key],
        checks: [RealtimeProbe.check], probes: [RealtimeProbe.probe])
}
