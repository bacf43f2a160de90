/// Returns a number and its noun: `1 table`, `2 tables`, `0 entries`.
///
/// - Parameter plural: the plural, if it is not the singular with an appended `s`.
public func counted(_ number: some BinaryInteger, _ singular: String, _ plural: String? = nil) -> String {
    "\(number) \(number == 1 ? singular : plural ?? "\(singular)s")"
}
