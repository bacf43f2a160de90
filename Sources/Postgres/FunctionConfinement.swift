/// Which functions a `Confinement` confines.
///
/// A row that is inserted, a constraint that is checked and a trigger that fires run functions of the database, and a
/// function without SECURITY DEFINER runs as whoever happens to be there: a superuser, where Reeve is one. Changing the
/// role around the statement does not help, for the function can change it back. So every function whose owner is no
/// superuser is made SECURITY DEFINER for as long as it matters: it runs as its owner, and PostgreSQL refuses to change the
/// role within it (manual, CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely").
///
/// Membership in an extension exempts none: the owner of a database installs trusted extensions, and puts functions into
/// them.
enum FunctionConfinement {
    /// SQL for a condition on a row `p` of pg_proc: functions that would run as whoever calls them.
    static let isConfinable = "NOT p.prosecdef AND p.prokind <> 'a'"

    /// SQL for a condition on a row `p` of pg_proc and the row `o` of pg_roles of its owner: functions that would run as
    /// whoever calls them, and whose owner is no superuser.
    static let unconfined = "\(isConfinable) AND NOT o.rolsuper"
}
