import Postgres
import Reporting

/// A check that `reeve doctor` runs on one database.
public struct Check: Sendable {
    /// The input of a check.
    public struct Call: Sendable {
        public let database: DatabaseConfiguration
        public let estate: Estate
        /// The open database; nil if it could not be opened.
        public let open: OpenDatabase?
        /// The server's version, as `server_version_num`; nil if the server does not answer.
        public let serverVersion: Int?
        /// The age identities from the command line, in addition to the configured one.
        public let identities: [String]

        public init(
            database: DatabaseConfiguration, estate: Estate, open: OpenDatabase?, serverVersion: Int?,
            identities: [String]
        ) {
            self.database = database
            self.estate = estate
            self.open = open
            self.serverVersion = serverVersion
            self.identities = identities
        }
    }

    /// The name of the check in `--only`.
    public let name: String
    /// A description in one line.
    public let summary: String
    /// The time limit of one run.
    public let limit: Duration
    /// Runs the check. It changes nothing. An error that it throws is reported as a finding.
    public let run: @Sendable (Call) async throws -> [Finding]

    public init(
        _ name: String, _ summary: String, limit: Duration = .seconds(60),
        run: @escaping @Sendable (Call) async throws -> [Finding]
    ) {
        self.name = name
        self.summary = summary
        self.limit = limit
        self.run = run
    }
}

extension Finding {
    /// The finding in the form that `reeve doctor --json` prints.
    public var json: JSONValue {
        [
            "check": .string(subject), "severity": .string(severity.rawValue), "evidence": .string(evidence),
            "mend": .string(mend),
        ]
    }
}
