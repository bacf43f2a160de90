/// Something that is not as it should be: what a check, a verification or a trial tells.
public struct Finding: Sendable, Hashable {
    public enum Severity: String, Sendable { case warning, error }

    /// What it is about.
    public let subject: String
    public let severity: Severity
    /// What was seen.
    public let evidence: String
    /// What to do about it, where that is known.
    public let mend: String?

    public init(_ subject: String, _ severity: Severity, _ evidence: String, mend: String?) {
        self.subject = subject
        self.severity = severity
        self.evidence = evidence
        self.mend = mend
    }

    /// For a terminal: the remedy on a line of its own.
    public var text: String { "\(severity.rawValue): \(subject): \(evidence)" + (mend.map { "\n  \($0)" } ?? "") }
}
