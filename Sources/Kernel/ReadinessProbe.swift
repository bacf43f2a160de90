/// A check for `/readyz`: whether a database is in the state that the program requires. The service runs it
/// repeatedly, after the ledger is installed.
public struct ReadinessProbe: Sendable {
    public struct Answer: Sendable {
        public let isReady: Bool
        /// The message for the client. It must not contain a host, user or database name, because any client that can
        /// connect can read it.
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
