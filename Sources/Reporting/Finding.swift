/// A problem that a check, a verification or a trial found.
public struct Finding: Sendable, Hashable {
    public enum Severity: String, Sendable { case warning, error }

    /// The object of the finding.
    public let subject: String
    public let severity: Severity
    /// What was found.
    public let evidence: String
    /// The remedy, if it is known.
    public let mend: String?

    public init(_ subject: String, _ severity: Severity, _ evidence: String, mend: String?) {
        self.subject = subject
        self.severity = severity
        self.evidence = evidence
        self.mend = mend
    }

    /// The text for a terminal, with the remedy on a separate line.
    public var text: String { "\(severity.rawValue): \(subject): \(evidence)" + (mend.map { "\n  \($0)" } ?? "") }
}
