/// Part of what `/readyz` tells: whether a database is as the program needs it. The service asks from time to time, once
/// the ledger is there.
public struct ReadinessProbe: Sendable {
    public struct Answer: Sendable {
        public let isReady: Bool
        /// Holds no host, user or name of a database: whoever can connect reads it.
        public let message: String

        public init(isReady: Bool, message: String) {
            self.isReady = isReady
            self.message = message
        }
    }

    public let name: String
    public let ask: @Sendable (OpenDatabase, Configuration) async throws -> Answer

    public init(_ name: String, ask: @escaping @Sendable (OpenDatabase, Configuration) async throws -> Answer) {
        self.name = name
        self.ask = ask
    }
}
