DROP TRIGGER clear_session_costs_on_truncate ON generation_costs;
DROP TRIGGER update_session_cost_on_move ON generation_costs;
DROP TRIGGER update_session_cost_on_delete ON generation_costs;
DROP TRIGGER lock_session_cost ON generation_costs;
DROP FUNCTION clear_session_costs();
DROP FUNCTION recalculate_left_session_cost();
DROP FUNCTION lock_session_of_cost();
